"""The gRPC face of the buyer: what it has bought, for whoever the access rules let ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from confidential_bookstore.api.bookbuyer.v1 import bookbuyer_pb2 as pb
from confidential_bookstore.api.bookbuyer.v1 import bookbuyer_pb2_grpc
from confidential_bookstore.serving import fields
from services.bookbuyer.ledger import Ledger
from services.bookbuyer.purchases import MAX_RECEIPTS, Reset

Context = grpc.aio.ServicerContext[Any, Any]


class BookbuyerService(bookbuyer_pb2_grpc.BookbuyerServiceServicer):
    """Serves `confidential_bookstore.api.bookbuyer.v1.BookbuyerService`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def GetPurchases(self, request: pb.GetPurchasesRequest, context: Context) -> pb.GetPurchasesResponse:
        """See the proto."""
        most = fields.checked_number("receipts", request.receipts, least=0, most=MAX_RECEIPTS)
        return pb.GetPurchasesResponse(purchases=self._ledger.latest.value, receipts=self._ledger.receipts(most))

    async def WatchPurchases(
        self, request: pb.WatchPurchasesRequest, context: Context
    ) -> AsyncIterator[pb.WatchPurchasesResponse]:
        """See the proto."""
        async for purchases in self._ledger.latest.watch():
            yield pb.WatchPurchasesResponse(purchases=purchases)

    async def Reset(self, request: pb.ResetRequest, context: Context) -> pb.ResetResponse:
        """A record like any other: a restart does not bring the old count back."""
        await self._ledger.record(Reset())
        return pb.ResetResponse()
