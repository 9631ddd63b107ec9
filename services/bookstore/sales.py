"""This store's totals, as the warehouse has stored them, for the status page and for watchers.

The store counts nothing itself: after sales it asks the warehouse. Many sales in a short time are answered by one
question, so watching costs the same at one sale per second and at a thousand.
"""

from __future__ import annotations

import asyncio

import structlog

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2
from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.serving.latest import Latest
from confidential_bookstore.telemetry.status import Status
from services.bookstore.warehouse import Warehouse

_log = structlog.get_logger()

_PAUSE_SECONDS = 0.1  # at most ten questions per second
_RETRY_SECONDS = 1.0


class SalesBoard:
    """Keeps the latest totals. Run `follow` beside the server."""

    def __init__(self, warehouse: Warehouse, status: Status) -> None:
        self._warehouse = warehouse
        self._orders = status.counter("orders", "orders this store has sold")
        self._books_sold = status.counter("books_sold", "copies in those orders")
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._changed.set()  # the totals of earlier runs are news, too
        self.latest: Latest[bookstore_pb2.Sales] = Latest(bookstore_pb2.Sales(seller=warehouse.seller))

    def sold(self) -> None:
        """There was a sale."""
        self._changed.set()

    async def read(self) -> bookstore_pb2.Sales:
        """The totals now.

        Raises:
            StoreUnavailable: the warehouse did not answer.
        """
        totals = await self._warehouse.totals()
        return bookstore_pb2.Sales(seller=self._warehouse.seller, orders=totals.orders, books_sold=totals.books_sold)

    async def refresh(self) -> None:
        """Publish the totals now. One after the other: an answer that was overtaken must not be published last.

        Raises:
            StoreUnavailable: the warehouse did not answer.
        """
        async with self._turn:
            sales = await self.read()
            self._orders.value, self._books_sold.value = sales.orders, sales.books_sold
            self.latest.set(sales)

    async def follow(self) -> None:
        """Publish the totals after sales, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.refresh()
            except BookstoreError as error:
                _log.warning("store.totals_unknown", reason=str(error))
                self._changed.set()
                await asyncio.sleep(_RETRY_SECONDS)
            await asyncio.sleep(_PAUSE_SECONDS)
