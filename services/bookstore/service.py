"""The gRPC face of the store: who buys is what the buyer's certificate says, whatever the request says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2 as pb
from confidential_bookstore.api.bookstore.v1 import bookstore_pb2_grpc
from confidential_bookstore.api.bookwarehouse.v1 import bookwarehouse_pb2
from confidential_bookstore.errors import (
    BookstoreError,
    InvalidRequest,
    NotFound,
    OutOfStock,
    PurchaseIdReused,
    StoreUnavailable,
)
from confidential_bookstore.marble.peer import current_peer
from confidential_bookstore.serving import fields
from services.bookstore.restock import Restocker
from services.bookstore.sales import SalesBoard
from services.bookstore.warehouse import Warehouse

Context = grpc.aio.ServicerContext[Any, Any]
Refusal = bookwarehouse_pb2.SaleRefusal

_ERRORS: dict[int, type[BookstoreError]] = {
    Refusal.REASON_UNKNOWN_BOOK: NotFound,
    Refusal.REASON_OUT_OF_STOCK: OutOfStock,
    Refusal.REASON_PURCHASE_ID_REUSED: PurchaseIdReused,
    Refusal.REASON_INVALID: InvalidRequest,
}


class BookstoreService(bookstore_pb2_grpc.BookstoreServiceServicer):
    """Serves `confidential_bookstore.api.bookstore.v1.BookstoreService`."""

    def __init__(self, warehouse: Warehouse, restocker: Restocker | None, board: SalesBoard) -> None:
        self._warehouse = warehouse
        self._restocker = restocker
        self._board = board

    async def BuyBook(self, request: pb.BuyBookRequest, context: Context) -> pb.BuyBookResponse:
        """Sell; if the title has run out, restock once and sell again."""
        sale = bookwarehouse_pb2.Sale(
            purchase_id=fields.checked_uuid("purchase_id", request.purchase_id),
            book_id=fields.checked_book_id(request.book_id),
            quantity=fields.checked_quantity(request.quantity),
            buyer=current_peer().marble_type,
        )
        result = await self._warehouse.sell(sale)
        if result.refusal.reason == Refusal.REASON_OUT_OF_STOCK and self._restocker is not None:
            await self._restocker.restock(sale.book_id, sale.purchase_id)
            result = await self._warehouse.sell(sale)
        if not result.HasField("receipt"):
            raise _ERRORS.get(result.refusal.reason, StoreUnavailable)(result.refusal.message)
        if not result.replayed:
            self._board.sold()
        return pb.BuyBookResponse(receipt=result.receipt, replayed=result.replayed)

    async def ListBooks(self, request: pb.ListBooksRequest, context: Context) -> pb.ListBooksResponse:
        """The warehouse's page."""
        size, token = fields.checked_page(request.page_size, request.page_token)
        page = await self._warehouse.list_page(size, token)
        return pb.ListBooksResponse(books=page.books, next_page_token=page.next_page_token)

    async def GetBook(self, request: pb.GetBookRequest, context: Context) -> pb.GetBookResponse:
        """The warehouse's title."""
        return pb.GetBookResponse(book=await self._warehouse.get(fields.checked_book_id(request.book_id)))

    async def GetSales(self, request: pb.GetSalesRequest, context: Context) -> pb.GetSalesResponse:
        """Always asked anew."""
        return pb.GetSalesResponse(sales=await self._board.read())

    async def WatchSales(self, request: pb.WatchSalesRequest, context: Context) -> AsyncIterator[pb.WatchSalesResponse]:
        """First what the warehouse says now, or that it says nothing; then what the board learns."""
        await self._board.refresh()
        async for sales in self._board.latest.watch():
            yield pb.WatchSalesResponse(sales=sales)
