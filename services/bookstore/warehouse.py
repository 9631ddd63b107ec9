"""The warehouse as the store sees it: its answers are values, its failures errors of our own tree.

A failure of the warehouse is never passed on as if the store's caller had done something wrong: only what the warehouse
says about the request itself (INVALID_ARGUMENT, NOT_FOUND) is. Everything else is UNAVAILABLE, with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc

from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.api.bookwarehouse.v1 import bookwarehouse_pb2 as pb
from confidential_bookstore.errors import InvalidRequest, NotFound, StoreUnavailable

T = TypeVar("T")


class Warehouse:
    """Calls one warehouse on behalf of one seller.

    Args:
        stub: a `BookwarehouseServiceStub`; its channel gives every call a deadline.
        seller: under which name sales are recorded.
    """

    def __init__(self, stub: Any, seller: str) -> None:
        self._stub = stub
        self.seller = seller

    async def sell(self, sale: pb.Sale) -> pb.SaleResult:
        """Record one sale: a receipt or a refusal."""
        request = pb.SellBooksRequest(seller=self.seller, sales=[sale])
        response: pb.SellBooksResponse = await _answer(self._stub.SellBooks(request))
        if len(response.results) != 1:
            raise StoreUnavailable("the warehouse answered out of turn", got=len(response.results), expected="1 result")
        return response.results[0]

    async def restock(self, restock_id: str, book_id: str, copies: int) -> None:
        """Order copies, once per `restock_id`."""
        request = pb.RestockBooksRequest(restock_id=restock_id, book_id=book_id, copies=copies)
        await _answer(self._stub.RestockBooks(request))

    async def get(self, book_id: str) -> books_pb2.StockedBook:
        """One title."""
        response: pb.GetStockResponse = await _answer(self._stub.GetStock(pb.GetStockRequest(book_id=book_id)))
        return response.book

    async def list_page(self, page_size: int, page_token: str) -> pb.ListBooksResponse:
        """One page of titles."""
        return await _answer(self._stub.ListBooks(pb.ListBooksRequest(page_size=page_size, page_token=page_token)))

    async def totals(self) -> pb.GetTotalsResponse:
        """Totals of this seller."""
        return await _answer(self._stub.GetTotals(pb.GetTotalsRequest(seller=self.seller)))


async def _answer(call: Awaitable[T]) -> T:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            raise InvalidRequest(error.details() or "refused by the warehouse") from error
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise NotFound(error.details() or "unknown to the warehouse") from error
        raise StoreUnavailable(
            "the warehouse did not serve this store", got=f"{error.code().name}: {error.details()}"
        ) from error
