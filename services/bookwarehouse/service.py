"""The gRPC face of the warehouse. It checks requests and calls the store in its thread; it decides nothing."""

from __future__ import annotations

from typing import Any

import grpc

from confidential_bookstore.api.bookwarehouse.v1 import bookwarehouse_pb2 as pb
from confidential_bookstore.api.bookwarehouse.v1 import bookwarehouse_pb2_grpc
from confidential_bookstore.errors import InvalidRequest
from confidential_bookstore.serving import fields
from confidential_bookstore.serving.thread import DedicatedThread
from confidential_bookstore.telemetry.status import Status
from services.bookwarehouse import messages
from services.bookwarehouse.counters import WarehouseCounters
from services.bookwarehouse.store import Outcome, Restock, Sale, StockedBook, Store

Context = grpc.aio.ServicerContext[Any, Any]


class BookwarehouseService(bookwarehouse_pb2_grpc.BookwarehouseServiceServicer):
    """Serves `confidential_bookstore.api.bookwarehouse.v1.BookwarehouseService`."""

    def __init__(self, store: Store, thread: DedicatedThread, status: Status) -> None:
        self._store = store
        self._thread = thread
        self._counters = WarehouseCounters(status)

    async def start(self) -> None:
        """Show the stored totals on the status page."""
        await self._thread.run(self._counters.show_totals_of, self._store)

    async def SellBooks(self, request: pb.SellBooksRequest, context: Context) -> pb.SellBooksResponse:
        """Well-formed sales go to the store as one batch; the answer keeps the order of the request."""
        fields.checked_number("number of sales", len(request.sales), least=1, most=fields.MAX_SALES)
        seller = fields.checked_identity("seller", request.seller)
        sales: list[Sale] = []
        invalid: dict[int, str] = {}
        for position, message in enumerate(request.sales):
            try:
                sales.append(messages.sale_from(message, seller))
            except InvalidRequest as error:
                invalid[position] = str(error)
        outcomes = iter(await self._thread.run(self._sell, sales) if sales else ())
        return pb.SellBooksResponse(
            results=[
                messages.invalid_result(invalid[position])
                if position in invalid
                else messages.result_of(next(outcomes))
                for position in range(len(request.sales))
            ]
        )

    async def RestockBooks(self, request: pb.RestockBooksRequest, context: Context) -> pb.RestockBooksResponse:
        """See the proto."""
        stocked = await self._thread.run(self._restock, messages.restock_from(request))
        return pb.RestockBooksResponse(book=messages.stocked_message(stocked))

    async def GetStock(self, request: pb.GetStockRequest, context: Context) -> pb.GetStockResponse:
        """See the proto."""
        stocked = await self._thread.run(self._store.get, fields.checked_book_id(request.book_id))
        return pb.GetStockResponse(book=messages.stocked_message(stocked))

    async def ListBooks(self, request: pb.ListBooksRequest, context: Context) -> pb.ListBooksResponse:
        """One more than a page is read, to know whether there is a next one."""
        size, after = fields.checked_page(request.page_size, request.page_token)
        books = await self._thread.run(self._store.list_page, after=after, limit=size + 1)
        page, more = books[:size], books[size:]
        return pb.ListBooksResponse(
            books=[messages.stocked_message(stocked) for stocked in page],
            next_page_token=page[-1].book.book_id if more else "",
        )

    async def GetTotals(self, request: pb.GetTotalsRequest, context: Context) -> pb.GetTotalsResponse:
        """See the proto."""
        seller = request.seller and fields.checked_identity("seller", request.seller)
        totals = await self._thread.run(self._store.totals, seller)
        return pb.GetTotalsResponse(
            orders=totals.orders, books_sold=totals.books_sold, books_restocked=totals.books_restocked
        )

    # In the store's thread, where sale and count are one step: also when the caller has gone away meanwhile.

    def _sell(self, sales: list[Sale]) -> list[Outcome]:
        outcomes = self._store.sell(sales)
        self._counters.count(outcomes)
        return outcomes

    def _restock(self, restock: Restock) -> StockedBook:
        stocked = self._store.restock(restock)
        self._counters.show_totals_of(self._store)
        return stocked
