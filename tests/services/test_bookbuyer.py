"""Exactly once: whatever fails and whoever is killed, the buyer's receipts equal the stored orders."""

from __future__ import annotations

import asyncio
import random
import sys
import textwrap
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from bookstore_world import BOOKS, KEY, OTHER_KEY, Faults, code_of, new_id, serving, stub_for, until

from confidential_bookstore.api.bookbuyer.v1 import bookbuyer_pb2 as pb
from confidential_bookstore.api.bookbuyer.v1.bookbuyer_pb2_grpc import (
    BookbuyerServiceStub,
    add_BookbuyerServiceServicer_to_server,
)
from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.api.bookstore.v1 import bookstore_pb2
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import (
    BookstoreServiceServicer,
    BookstoreServiceStub,
    add_BookstoreServiceServicer_to_server,
)
from confidential_bookstore.errors import SealedStateError, StoreUnavailable
from confidential_bookstore.marble.journal import Journal
from confidential_bookstore.serving.thread import DedicatedThread
from confidential_bookstore.telemetry.status import Status
from services.bookbuyer.buyer import Buyer, Chance, is_final
from services.bookbuyer.ledger import Ledger
from services.bookbuyer.purchases import Intent, Purchases, decode, encode
from services.bookbuyer.service import BookbuyerService

UNCERTAIN = [
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
]


class FakeStore(BookstoreServiceServicer):
    """Sells like the real one: each purchase_id once."""

    def __init__(self) -> None:
        self.orders: dict[str, books_pb2.Receipt] = {}
        self.refuse: dict[str, tuple[grpc.StatusCode, str]] = {}

    async def ListBooks(self, request, context):
        page = bookstore_pb2.ListBooksResponse()
        left = [book for book in BOOKS if book.book_id > request.page_token]
        page.books.add(book=books_pb2.Book(book_id=left[0].book_id))
        page.next_page_token = left[0].book_id if left[1:] else ""
        return page

    async def BuyBook(self, request, context):
        earlier = self.orders.get(request.purchase_id)
        if earlier is None and request.book_id in self.refuse:
            await context.abort(*self.refuse[request.book_id])
        if earlier is None:
            self.orders[request.purchase_id] = books_pb2.Receipt(
                purchase_id=request.purchase_id,
                order_id=new_id(),
                book=books_pb2.Book(book_id=request.book_id),
                quantity=request.quantity,
                seller="bookstore-v1",
            )
        return bookstore_pb2.BuyBookResponse(receipt=self.orders[request.purchase_id], replayed=earlier is not None)


@dataclass
class Shop:
    store: FakeStore
    faults: Faults
    stub: Any


@pytest.fixture
async def shop():
    store, faults = FakeStore(), Faults()
    async with (
        serving(add_BookstoreServiceServicer_to_server, store, faults=faults) as address,
        stub_for(BookstoreServiceStub, address) as stub,
    ):
        yield Shop(store, faults, stub)


async def at_once(_seconds: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture
def journal_path(tmp_path):
    return tmp_path / "purchases.journal"


@asynccontextmanager
async def buyer_at(shop: Shop, path, status: Status | None = None):
    """A buyer started on a journal, as after a restart."""
    with closing(Journal(path, KEY)) as journal, DedicatedThread("journal") as thread:
        ledger = Ledger(journal, thread, status or Status("bookbuyer"))
        chance = Chance(choose=random.Random(1).choice, jitter=lambda: 1.0)
        yield Buyer(shop.stub, ledger, chance=chance, sleep=at_once), ledger


def bought(ledger: Ledger) -> dict[str, books_pb2.Receipt]:
    return {receipt.purchase_id: receipt for receipt in ledger.receipts(1000)}


async def test_a_purchase_is_written_down_before_and_after(shop, journal_path):
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        await buyer.buy("emma")
        assert bought(ledger) == shop.store.orders
        assert len(shop.store.orders) == 1
    with closing(Journal(journal_path, KEY)) as journal:
        intent, receipt = (decode(data) for data in journal)
    assert isinstance(intent, Intent)
    assert receipt == shop.store.orders[intent.purchase_id]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("code", UNCERTAIN)
async def test_an_uncertain_failure_is_asked_again_with_the_same_purchase_id(shop, journal_path, when, code):
    shop.faults.add("BuyBook", when, code, times=3)
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        await buyer.buy("emma")
        assert shop.faults.calls.count("BuyBook") == 4
        assert bought(ledger) == shop.store.orders
        assert len(shop.store.orders) == 1
        assert ledger.pending() == []


@pytest.mark.parametrize("code", ["NOT_FOUND", "INVALID_ARGUMENT", "ALREADY_EXISTS"])
@pytest.mark.parametrize("failures", [0, 2])
async def test_a_verdict_is_final_after_whatever_came_before(shop, journal_path, code, failures):
    shop.store.refuse["emma"] = (grpc.StatusCode[code], "because")
    shop.faults.add("BuyBook", "before", grpc.StatusCode.UNAVAILABLE, times=failures)
    status = Status("bookbuyer")
    async with buyer_at(shop, journal_path, status) as (buyer, ledger):
        await buyer.buy("emma")
        assert ledger.pending() == []
        assert ledger.latest.value.books_bought == 0
    assert status.counter("purchases_refused").value == 1
    with closing(Journal(journal_path, KEY)) as journal:
        refusal = decode(list(journal)[1])
    assert (refusal.code, refusal.reason) == (code, "because")


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "FAILED_PRECONDITION"])
async def test_a_refusal_of_the_first_attempt_is_final(shop, journal_path, code):
    shop.store.refuse["emma"] = (grpc.StatusCode[code], "because")
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        await buyer.buy("emma")
        assert ledger.pending() == []
        assert shop.faults.calls.count("BuyBook") == 1


async def test_a_denial_after_a_lost_answer_decides_nothing(shop, journal_path):
    """Sold, the answer lost, then the policy changes for a while: the receipt must not be given up."""
    shop.faults.add("BuyBook", "after", grpc.StatusCode.UNAVAILABLE)
    shop.faults.add("BuyBook", "before", grpc.StatusCode.PERMISSION_DENIED, times=3)
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        await buyer.buy("emma")
        assert bought(ledger) == shop.store.orders
        assert ledger.latest.value.books_bought == 1


async def test_a_first_attempt_that_arrives_late_may_find_the_title_restocked(shop, journal_path):
    """It was given up on, a second one found the shelf empty, and then the first one is served after all."""
    shop.faults.add("BuyBook", "before", grpc.StatusCode.DEADLINE_EXCEEDED)
    shop.store.refuse["emma"] = (grpc.StatusCode.FAILED_PRECONDITION, "0 copies left")
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        buying = asyncio.create_task(buyer.buy("emma"))
        await until(lambda: shop.faults.calls.count("BuyBook") >= 3)
        (intent,) = ledger.pending()
        del shop.store.refuse["emma"]
        await shop.stub.BuyBook(
            bookstore_pb2.BuyBookRequest(purchase_id=intent.purchase_id, book_id="emma", quantity=1)
        )
        await buying
        assert bought(ledger) == shop.store.orders
        assert len(shop.store.orders) == 1


async def test_a_purchase_that_stays_in_doubt_does_not_keep_the_buyer_from_buying(shop, journal_path):
    shop.faults.add("BuyBook", "before", grpc.StatusCode.UNAVAILABLE, times=10_000)
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        buying = asyncio.create_task(buyer.buy("emma"))
        await until(lambda: shop.faults.calls.count("BuyBook") >= 1)
        buying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await buying
    shop.faults.script.clear()
    shop.store.refuse["emma"] = (grpc.StatusCode.FAILED_PRECONDITION, "0 copies left")
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        running = asyncio.create_task(buyer.run(interval=0, concurrency=1))
        await until(lambda: ledger.latest.value.books_bought >= 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert "emma" in [intent.book_id for intent in ledger.pending()]


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_nothing_is_final_that_may_hide_a_sale(code):
    if is_final(code, first_attempt=False):
        assert is_final(code, first_attempt=True)
        assert code.name in {"NOT_FOUND", "INVALID_ARGUMENT", "ALREADY_EXISTS"}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_restart_finishes_what_was_pending_first(shop, journal_path, when):
    shop.faults.add("BuyBook", when, grpc.StatusCode.UNAVAILABLE, times=10_000)
    async with buyer_at(shop, journal_path) as (buyer, _):
        buying = asyncio.gather(buyer.buy("emma"), buyer.buy("iliad"))
        await until(lambda: shop.faults.calls.count("BuyBook") >= 5)
        buying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await buying
    shop.faults.script.clear()
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        assert len(ledger.pending()) == 2
        await buyer.finish_pending()
        assert ledger.pending() == []
        assert bought(ledger) == shop.store.orders
        assert len(shop.store.orders) == 2


async def test_a_pending_purchase_after_a_restart_is_not_given_up_for_a_denial(shop, journal_path):
    with closing(Journal(journal_path, KEY)) as journal:
        journal.append(encode(Intent(new_id(), "emma")))
    shop.faults.add("BuyBook", "before", grpc.StatusCode.PERMISSION_DENIED, times=2)
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        await buyer.finish_pending()
        assert bought(ledger) == shop.store.orders
        assert len(shop.store.orders) == 1


class FullDisk:
    """A journal that cannot be written for some time."""

    def __init__(self, journal: Journal, allowed: int, failures: int) -> None:
        self._journal = journal
        self.allowed = allowed
        self.failures = failures

    def __iter__(self):
        return iter(self._journal)

    def append(self, record: bytes) -> int:
        if self.allowed == 0 and self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is full")
        self.allowed = max(0, self.allowed - 1)
        return self._journal.append(record)


async def test_a_receipt_that_cannot_be_written_down_is_fetched_again(shop, journal_path):
    with closing(Journal(journal_path, KEY)) as journal, DedicatedThread("journal") as thread:
        ledger = Ledger(FullDisk(journal, allowed=1, failures=2), thread, Status("bookbuyer"))
        await Buyer(shop.stub, ledger, sleep=at_once).buy("emma")
        assert bought(ledger) == shop.store.orders
        assert shop.faults.calls.count("BuyBook") == 3


async def test_without_a_written_intent_nothing_is_bought(shop, journal_path):
    with closing(Journal(journal_path, KEY)) as journal, DedicatedThread("journal") as thread:
        ledger = Ledger(FullDisk(journal, allowed=0, failures=1), thread, Status("bookbuyer"))
        with pytest.raises(StoreUnavailable):
            await Buyer(shop.stub, ledger, sleep=at_once).buy("emma")
        assert shop.store.orders == {}
        assert ledger.pending() == []


async def test_a_receipt_of_another_purchase_is_not_believed(shop, journal_path):
    intent = Intent(new_id(), "emma")
    shop.store.orders[intent.purchase_id] = books_pb2.Receipt(purchase_id=new_id(), quantity=1)
    with closing(Journal(journal_path, KEY)) as journal:
        journal.append(encode(intent))
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await buyer.finish_pending()
        assert ledger.pending() == [intent]
        assert ledger.receipts(10) == []


async def test_workers_buy_in_parallel_until_they_are_cancelled(shop, journal_path):
    for method in ("ListBooks", "BuyBook"):
        shop.faults.add(method, "after", grpc.StatusCode.UNAVAILABLE, times=5)
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        running = asyncio.create_task(buyer.run(interval=0.0, concurrency=4))
        await until(lambda: ledger.latest.value.books_bought >= 40)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    async with buyer_at(shop, journal_path) as (buyer, ledger):
        await buyer.finish_pending()
        assert bought(ledger) == shop.store.orders
        assert {receipt.book.book_id for receipt in shop.store.orders.values()} == {b.book_id for b in BOOKS}


async def test_the_interval_counts_from_start_to_start(shop, journal_path):
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async with buyer_at(shop, journal_path) as (_, ledger):
        running = asyncio.create_task(Buyer(shop.stub, ledger, sleep=sleep).run(interval=60.0, concurrency=1))
        await until(lambda: len(slept) >= 3)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert all(50 < seconds < 60 for seconds in slept)


CHILD = """
    import asyncio, sys
    from contextlib import closing
    import grpc
    from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import BookstoreServiceStub
    from confidential_bookstore.marble.journal import Journal
    from confidential_bookstore.serving.thread import DedicatedThread
    from confidential_bookstore.telemetry.status import Status
    from services.bookbuyer.buyer import Buyer
    from services.bookbuyer.ledger import Ledger

    async def main():
        with closing(Journal(sys.argv[2], bytes(range(32)))) as journal, DedicatedThread("journal") as thread:
            async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
                ledger = Ledger(journal, thread, Status("bookbuyer"))
                await Buyer(BookstoreServiceStub(channel), ledger).run(interval=0.0, concurrency=4)

    asyncio.run(main())
"""


async def test_kill_9_of_the_buyer_leaves_receipts_equal_to_orders(journal_path):
    store = FakeStore()
    async with (
        serving(add_BookstoreServiceServicer_to_server, store) as address,
        stub_for(BookstoreServiceStub, address) as stub,
    ):
        for enough in (30, 60, 90):
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-c", textwrap.dedent(CHILD), address, str(journal_path)
            )
            try:
                await until(lambda enough=enough: len(store.orders) >= enough, seconds=30)
            finally:
                child.kill()
                await child.wait()
        async with buyer_at(Shop(store, Faults(), stub), journal_path) as (buyer, ledger):
            await buyer.finish_pending()
            assert bought(ledger) == store.orders
            assert ledger.latest.value.books_bought == len(store.orders)


# What the buyer remembers


def test_the_journal_is_encrypted_and_bound_to_its_key(journal_path):
    with closing(Journal(journal_path, KEY)) as journal:
        journal.append(encode(Intent("a-purchase", "emma")))
    content = journal_path.read_bytes()
    assert b"a-purchase" not in content
    assert b"emma" not in content
    with pytest.raises(SealedStateError):
        Journal(journal_path, OTHER_KEY)


# Its gRPC face


@pytest.fixture
async def face(shop, journal_path):
    async with AsyncExitStack() as stack:
        buyer, ledger = await stack.enter_async_context(buyer_at(shop, journal_path))
        address = await stack.enter_async_context(
            serving(add_BookbuyerServiceServicer_to_server, BookbuyerService(ledger))
        )
        yield await stack.enter_async_context(stub_for(BookbuyerServiceStub, address)), buyer


async def test_purchases_and_newest_receipts(face, shop):
    stub, buyer = face
    for book in BOOKS:
        await buyer.buy(book.book_id)
    answer = await stub.GetPurchases(pb.GetPurchasesRequest(receipts=2))
    assert answer.purchases.books_bought == 3
    assert dict(answer.purchases.books_by_seller) == {"bookstore-v1": 3}
    assert list(answer.receipts) == list(shop.store.orders.values())[:0:-1]
    assert list((await stub.GetPurchases(pb.GetPurchasesRequest())).receipts) == []
    assert len((await stub.GetPurchases(pb.GetPurchasesRequest(receipts=1000))).receipts) == 3


@pytest.mark.parametrize("receipts", [-1, 1001, 2**31 - 1])
async def test_the_number_of_receipts_is_bounded(face, receipts):
    call = face[0].GetPurchases(pb.GetPurchasesRequest(receipts=receipts))
    assert (await code_of(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_reset_counts_anew_for_good_and_keeps_receipts(face):
    stub, buyer = face
    await buyer.buy("emma")
    await stub.Reset(pb.ResetRequest())
    await buyer.buy("iliad")
    answer = await stub.GetPurchases(pb.GetPurchasesRequest(receipts=10))
    assert answer.purchases.books_bought == 1
    assert len(answer.receipts) == 2
    purchases = Purchases()
    for data in buyer._ledger._journal:
        purchases.apply(decode(data))
    assert purchases.books_bought == 1
    assert len(purchases.receipts) == 2


async def test_watchers_see_every_stand(face):
    stub, buyer = face
    watch = stub.WatchPurchases(pb.WatchPurchasesRequest())
    assert (await watch.read()).purchases.books_bought == 0
    await buyer.buy("emma")
    async with asyncio.timeout(5):
        while (await watch.read()).purchases.books_bought < 1:
            pass
    await stub.Reset(pb.ResetRequest())
    async with asyncio.timeout(5):
        while (await watch.read()).purchases.books_bought:
            pass
    watch.cancel()
