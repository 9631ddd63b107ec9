"""Buys books, each exactly once.

The intent is on disk before the store is asked, and the outcome is on disk before the next purchase. In between, every
failure that does not say what became of the purchase is answered by asking again with the same purchase_id, for as long
as it takes: the store answers with the receipt of the first attempt if that one went through. Where the manifest splits
the calls among stores, an attempt may go to another store than the one before; the warehouse behind them is the same.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.api.bookstore.v1 import bookstore_pb2 as pb
from confidential_bookstore.errors import StoreUnavailable
from services.bookbuyer.ledger import Ledger
from services.bookbuyer.purchases import Intent, Refusal

_log = structlog.get_logger()

_DEADLINE_SECONDS = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0

# About the request itself: every attempt, whenever it arrives, gets the same answer.
_VERDICTS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,  # the purchase_id is another purchase's
    }
)
# About this moment: an earlier attempt may have been let in, or be still on its way and find the title restocked.
_REFUSALS_FOR_NOW = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,  # out of stock
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def is_final(code: grpc.StatusCode, *, first_attempt: bool) -> bool:
    """Whether an error with this code means that the purchase did not and will not happen."""
    return code in _VERDICTS or (code in _REFUSALS_FOR_NOW and first_attempt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chance:
    """What is random about buying; tests bring their own."""

    purchase_id: Callable[[], str] = lambda: str(uuid.uuid4())
    choose: Callable[[Sequence[str]], str] = secrets.choice
    jitter: Callable[[], float] = random.random


class Buyer:
    """Buys from a store, or from whichever the stub's channel chooses.

    Args:
        stub: a `BookstoreServiceStub`.
        ledger: what was bought before.
        chance: titles, purchase ids and the spread of waiting times.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        stub: Any,
        ledger: Ledger,
        *,
        chance: Chance | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._stub = stub
        self._ledger = ledger
        self._chance = chance or Chance()
        self._sleep = sleep

    async def run(self, *, interval: float, concurrency: int) -> None:
        """Finish what is pending, and buy until cancelled: `concurrency` workers, each once per `interval` seconds."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.finish_pending())
            titles = await self._titles()
            for _ in range(concurrency):
                tasks.create_task(self._work(titles, interval))

    async def finish_pending(self) -> None:
        """Settle the purchases of an earlier run, all at the same time."""
        pending = self._ledger.pending()
        if pending:
            _log.info("buyer.finishing", purchases=len(pending))
        async with asyncio.TaskGroup() as purchases:
            for intent in pending:
                purchases.create_task(self._settle(intent, first_attempt=False))

    async def buy(self, book_id: str) -> None:
        """One purchase, from intent to outcome."""
        intent = Intent(purchase_id=self._chance.purchase_id(), book_id=book_id)
        await self._ledger.record(intent)
        await self._settle(intent, first_attempt=True)

    async def _work(self, titles: Sequence[str], interval: float) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await self.buy(self._chance.choose(titles))
            except StoreUnavailable as error:  # the intent could not be written down, so nothing was asked for
                _log.warning("buyer.cannot_write", reason=str(error))
                await self._sleep(_LONGEST_WAIT)
            await self._sleep(max(0.0, interval - (clock() - started)))

    async def _settle(self, intent: Intent, *, first_attempt: bool) -> None:
        """Ask until there is an outcome, and until it is written down."""
        wait = _FIRST_WAIT
        while True:
            try:
                await self._ledger.record(await self._ask(intent, first_attempt=first_attempt))
                return
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            except StoreUnavailable as error:
                reason = str(error)
            _log.warning("purchase.unsettled", purchase_id=intent.purchase_id, reason=reason, retry_in=wait)
            first_attempt = False
            await self._sleep(wait * (0.5 + self._chance.jitter() / 2))
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _ask(self, intent: Intent, *, first_attempt: bool) -> books_pb2.Receipt | Refusal:
        request = pb.BuyBookRequest(purchase_id=intent.purchase_id, book_id=intent.book_id, quantity=intent.quantity)
        try:
            response: pb.BuyBookResponse = await self._stub.BuyBook(request, timeout=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            if not is_final(error.code(), first_attempt=first_attempt):
                raise
            _log.warning("purchase.refused", purchase_id=intent.purchase_id, reason=error.details())
            return Refusal(intent.purchase_id, error.code().name, error.details() or "")
        answered = (response.receipt.purchase_id, response.receipt.book.book_id, response.receipt.quantity)
        if answered != (intent.purchase_id, intent.book_id, intent.quantity):
            raise StoreUnavailable("the store answered with another purchase's receipt", got=answered[0])
        return response.receipt

    async def _titles(self) -> list[str]:
        """All book_ids of the store; asks until it answers and has any."""
        wait = _FIRST_WAIT
        while True:
            try:
                if titles := await self._list_titles():
                    return titles
                reason = "the store lists no books"
            except grpc.aio.AioRpcError as error:
                reason = f"{error.code().name}: {error.details()}"
            _log.warning("buyer.no_titles", reason=reason, retry_in=wait)
            await self._sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _list_titles(self) -> list[str]:
        titles: list[str] = []
        token = ""
        while True:
            request = pb.ListBooksRequest(page_size=500, page_token=token)
            page: pb.ListBooksResponse = await self._stub.ListBooks(request, timeout=_DEADLINE_SECONDS)
            titles += [stocked.book.book_id for stocked in page.books]
            token = page.next_page_token
            if not token:
                return titles
