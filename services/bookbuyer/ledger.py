"""The buyer's memory: every record is in the journal, on disk, before anybody acts on it."""

from __future__ import annotations

import asyncio

from confidential_bookstore.api.bookbuyer.v1 import bookbuyer_pb2
from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.marble.journal import Journal
from confidential_bookstore.serving.latest import Latest
from confidential_bookstore.serving.thread import DedicatedThread
from confidential_bookstore.telemetry.status import Status
from services.bookbuyer.purchases import Intent, Purchases, Record, decode, encode

_SELLERS = ("bookstore-v1", "bookstore-v2")  # with a counter each; the total has all


class Ledger:
    """Journal and state, always in step.

    Args:
        journal: open; its records are read here, once.
        thread: where the journal is written.
        status: shows the counters.

    Raises:
        SealedStateError: the journal's records make no sense.
    """

    def __init__(self, journal: Journal, thread: DedicatedThread, status: Status) -> None:
        self._journal = journal
        self._thread = thread
        self._bought = status.counter("books_bought", "copies bought since the last reset")
        self._bought_from = {
            seller: status.counter(f"books_bought_from_{seller.replace('-', '_')}", f"those of them sold by {seller}")
            for seller in _SELLERS
        }
        self._refused = status.counter("purchases_refused", "purchases refused for good since the last reset")
        self._pending = status.gauge("purchases_pending", "purchases whose outcome is not known yet")
        self._purchases = Purchases()
        for data in journal:
            self._purchases.apply(decode(data))
        self._recording: set[asyncio.Task[None]] = set()
        self.latest: Latest[bookbuyer_pb2.Purchases] = Latest(self._show())

    async def record(self, record: Record) -> None:
        """Returns when the record is on disk and counted; it will be even if the caller is cancelled meanwhile.

        Raises:
            StoreUnavailable: it could not be written; nothing has changed.
        """
        recording = asyncio.create_task(self._record(record))
        self._recording.add(recording)
        recording.add_done_callback(self._recording.discard)
        await asyncio.shield(recording)

    async def _record(self, record: Record) -> None:
        await self._thread.run(self._journal.append, encode(record))
        self._purchases.apply(record)
        self.latest.set(self._show())

    def pending(self) -> list[Intent]:
        """Purchases that are intended and not settled, oldest first."""
        return list(self._purchases.pending.values())

    def receipts(self, most: int) -> list[books_pb2.Receipt]:
        """The newest receipts, newest first."""
        newest_first = reversed(self._purchases.receipts)
        return [receipt for receipt, _ in zip(newest_first, range(most), strict=False)]

    def _show(self) -> bookbuyer_pb2.Purchases:
        self._bought.value = self._purchases.books_bought
        for seller, counter in self._bought_from.items():
            counter.value = self._purchases.bought_by_seller[seller]
        self._refused.value = self._purchases.refused
        self._pending.value = len(self._purchases.pending)
        return bookbuyer_pb2.Purchases(
            books_bought=self._purchases.books_bought, books_by_seller=self._purchases.bought_by_seller
        )
