"""The gRPC face of the thief, in plaintext: nobody has given it a certificate to serve with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2 as pb
from confidential_bookstore.api.bookthief.v1 import bookthief_pb2_grpc
from services.bookthief.diary import Diary

Context = grpc.aio.ServicerContext[Any, Any]


class BookthiefService(bookthief_pb2_grpc.BookthiefServiceServicer):
    """Serves `confidential_bookstore.api.bookthief.v1.BookthiefService`."""

    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    async def GetThefts(self, request: pb.GetTheftsRequest, context: Context) -> pb.GetTheftsResponse:
        """See the proto."""
        return pb.GetTheftsResponse(thefts=self._diary.latest.value)

    async def WatchThefts(
        self, request: pb.WatchTheftsRequest, context: Context
    ) -> AsyncIterator[pb.WatchTheftsResponse]:
        """See the proto."""
        async for thefts in self._diary.latest.watch():
            yield pb.WatchTheftsResponse(thefts=thefts)

    async def Reset(self, request: pb.ResetRequest, context: Context) -> pb.ResetResponse:
        """See the proto."""
        self._diary.reset()
        return pb.ResetResponse()
