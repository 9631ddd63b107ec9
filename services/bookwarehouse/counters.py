"""The numbers on the warehouse's status page. They start from what is stored, so a restart does not reset them."""

from __future__ import annotations

from collections.abc import Iterable

from confidential_bookstore.telemetry.status import Status
from services.bookwarehouse.store import Outcome, Sold, Store


class WarehouseCounters:
    """Written in the store's thread only."""

    def __init__(self, status: Status) -> None:
        self._orders = status.counter("orders", "orders committed")
        self._books_sold = status.counter("books_sold", "copies in those orders")
        self._books_restocked = status.counter("books_restocked", "copies added by restocks")
        self._stock = status.gauge("stock_total", "copies that can still be sold")

    def show_totals_of(self, store: Store) -> None:
        """Read all four from the store."""
        totals = store.totals()
        self._orders.value = totals.orders
        self._books_sold.value = totals.books_sold
        self._books_restocked.value = totals.books_restocked
        self._stock.value = totals.stock

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Add what a batch has newly sold."""
        quantities = [o.receipt.sale.quantity for o in outcomes if isinstance(o, Sold) and not o.replayed]
        self._orders.value += len(quantities)
        self._books_sold.value += sum(quantities)
        self._stock.value -= sum(quantities)
