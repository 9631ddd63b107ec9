"""The store over real gRPC, in front of the real warehouse, with faults between them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import structlog.testing
from bookstore_world import Faults, code_of, new_id, serving, stub_for, until

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2 as pb
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import (
    BookstoreServiceStub,
    add_BookstoreServiceServicer_to_server,
)
from confidential_bookstore.api.bookwarehouse.v1.bookwarehouse_pb2_grpc import (
    BookwarehouseServiceStub,
    add_BookwarehouseServiceServicer_to_server,
)
from confidential_bookstore.telemetry.status import Status
from services.bookstore.restock import Restocker, restock_id_for
from services.bookstore.sales import SalesBoard
from services.bookstore.service import BookstoreService
from services.bookstore.warehouse import Warehouse
from services.bookwarehouse.service import BookwarehouseService
from services.bookwarehouse.store import Totals

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


@dataclass
class Shop:
    stub: Any
    faults: Faults
    board: SalesBoard
    status: Status


@pytest.fixture
async def open_shop(store, thread):
    """Opens stores in front of one warehouse."""
    faults = Faults()
    async with AsyncExitStack() as stack:
        warehouse_service = BookwarehouseService(store, thread, Status("bookwarehouse"))
        address = await stack.enter_async_context(
            serving(add_BookwarehouseServiceServicer_to_server, warehouse_service, faults=faults)
        )

        async def open_one(*, seller="bookstore-v1", restock_copies=0, peer="bookbuyer") -> Shop:
            channel = await stack.enter_async_context(stub_for(BookwarehouseServiceStub, address))
            warehouse = Warehouse(channel, seller)
            status = Status("bookstore")
            board = SalesBoard(warehouse, status)
            following = asyncio.create_task(board.follow())
            stack.callback(following.cancel)
            restocker = Restocker(warehouse, restock_copies) if restock_copies else None
            service = BookstoreService(warehouse, restocker, board)
            mine = await stack.enter_async_context(serving(add_BookstoreServiceServicer_to_server, service, peer=peer))
            return Shop(await stack.enter_async_context(stub_for(BookstoreServiceStub, mine)), faults, board, status)

        yield open_one


@pytest.fixture
async def shop(open_shop):
    return await open_shop()


def buy(shop: Shop, book_id="emma", quantity=1, purchase_id=None):
    request = pb.BuyBookRequest(purchase_id=purchase_id or new_id(), book_id=book_id, quantity=quantity)
    return shop.stub.BuyBook(request)


async def test_the_buyer_is_the_attested_caller_and_the_seller_this_store(shop):
    answer = await buy(shop, "iliad", 2)
    assert answer.receipt.buyer == "bookbuyer"
    assert answer.receipt.seller == "bookstore-v1"
    assert answer.receipt.book.author == "Homer"
    assert not answer.replayed


async def test_the_same_purchase_is_sold_once(shop, store):
    purchase_id = new_id()
    first = await buy(shop, purchase_id=purchase_id)
    again = await buy(shop, purchase_id=purchase_id)
    assert again.replayed
    assert again.receipt == first.receipt
    assert store.totals().orders == 1


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"book_id": "nowhere"}, "NOT_FOUND"),
        ({"quantity": 11}, "FAILED_PRECONDITION"),
        ({"quantity": 0}, "INVALID_ARGUMENT"),
        ({"quantity": -1}, "INVALID_ARGUMENT"),
        ({"quantity": 1001}, "INVALID_ARGUMENT"),
        ({"quantity": 2**31 - 1}, "INVALID_ARGUMENT"),
        ({"book_id": ""}, "INVALID_ARGUMENT"),
        ({"book_id": "EMMA"}, "INVALID_ARGUMENT"),
        ({"book_id": "emma' OR 1=1 --"}, "INVALID_ARGUMENT"),
        ({"book_id": "書店📚"}, "INVALID_ARGUMENT"),
        ({"book_id": "x" * 10_240}, "INVALID_ARGUMENT"),
        ({"purchase_id": "not-a-uuid"}, "INVALID_ARGUMENT"),
        ({"purchase_id": "' OR ''='"}, "INVALID_ARGUMENT"),
        ({"purchase_id": "📚" * 5_000}, "INVALID_ARGUMENT"),
    ],
)
async def test_refusals_are_typed(shop, store, fields, code):
    found, words = await code_of(buy(shop, **fields))
    assert found.name == code
    assert words
    assert words.isascii()
    assert store.totals().orders == 0


async def test_a_purchase_id_of_somebody_else_is_refused(open_shop):
    purchase_id = new_id()
    await buy(await open_shop(peer="bookbuyer"), purchase_id=purchase_id)
    code, words = await code_of(buy(await open_shop(peer="another-buyer"), purchase_id=purchase_id))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "bookbuyer" not in words


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
async def test_every_failure_of_the_warehouse_is_unavailable_with_its_reason(shop, code):
    shop.faults.add("SellBooks", "before", code)
    assert await code_of(buy(shop)) == (
        UNAVAILABLE,
        f"the warehouse did not serve this store: got {code.name}: injected before",
    )


async def test_a_lost_answer_is_found_again(shop, store):
    purchase_id = new_id()
    shop.faults.add("SellBooks", "after", UNAVAILABLE)
    assert (await code_of(buy(shop, purchase_id=purchase_id)))[0] is UNAVAILABLE
    assert (await buy(shop, purchase_id=purchase_id)).replayed
    assert store.totals().orders == 1


async def test_catalogue_and_single_titles(shop):
    page = await shop.stub.ListBooks(pb.ListBooksRequest(page_size=2))
    assert [stocked.book.book_id for stocked in page.books] == ["emma", "iliad"]
    rest = await shop.stub.ListBooks(pb.ListBooksRequest(page_size=2, page_token=page.next_page_token))
    assert [stocked.book.book_id for stocked in rest.books] == ["les-miserables"]
    assert rest.next_page_token == ""
    assert (await shop.stub.GetBook(pb.GetBookRequest(book_id="iliad"))).book.stock == 10
    for call, code in [
        (shop.stub.GetBook(pb.GetBookRequest(book_id="nowhere")), "NOT_FOUND"),
        (shop.stub.GetBook(pb.GetBookRequest(book_id="?")), "INVALID_ARGUMENT"),
        (shop.stub.ListBooks(pb.ListBooksRequest(page_size=501)), "INVALID_ARGUMENT"),
        (shop.stub.ListBooks(pb.ListBooksRequest(page_token="' --")), "INVALID_ARGUMENT"),
    ]:
        assert (await code_of(call))[0].name == code


async def test_sold_out_titles_are_restocked_and_sold(open_shop, store):
    shop = await open_shop(restock_copies=100)
    await buy(shop, quantity=10)
    with structlog.testing.capture_logs() as logs:
        assert (await buy(shop, quantity=3)).receipt.quantity == 3
    assert "store.restocked" in [entry["event"] for entry in logs]
    assert "emma" not in str(logs)  # what is bought is nobody's business who reads logs
    assert store.totals() == Totals(orders=2, books_sold=13, books_restocked=100, stock=117)


async def test_a_purchase_restocks_once_however_often_it_is_retried_and_by_whom(open_shop, store):
    purchase_id = new_id()
    shop = await open_shop(restock_copies=100)
    shop.faults.add("RestockBooks", "after", UNAVAILABLE)
    assert (await code_of(buy(shop, quantity=50, purchase_id=purchase_id)))[0] is UNAVAILABLE
    restarted = await open_shop(restock_copies=100)
    await buy(restarted, quantity=50, purchase_id=purchase_id)
    assert (await buy(restarted, quantity=50, purchase_id=purchase_id)).replayed
    assert store.totals() == Totals(orders=1, books_sold=50, books_restocked=100, stock=80)


async def test_a_purchase_restocks_at_most_once(open_shop, store):
    shop = await open_shop(restock_copies=5)
    purchase_id = new_id()
    for _ in range(3):
        code, words = await code_of(buy(shop, quantity=500, purchase_id=purchase_id))
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert words == "15 copies left, 500 asked for"
    assert store.totals().books_restocked == 5


async def test_buyers_of_a_sold_out_title_wait_for_one_restock_together(open_shop, store):
    shop = await open_shop(restock_copies=100)
    await buy(shop, quantity=10)
    answers = await asyncio.gather(*[buy(shop) for _ in range(20)])
    assert len({answer.receipt.order_id for answer in answers}) == 20
    # Never one per buyer; a second is possible when a refusal was on its way while the first restock arrived.
    assert 100 <= store.totals().books_restocked <= 200


def test_restock_ids_are_fixed_by_seller_and_purchase():
    one = new_id()
    assert restock_id_for("bookstore-v1", one) == restock_id_for("bookstore-v1", one)
    assert len({restock_id_for(s, p) for s in ("bookstore-v1", "bookstore-v2") for p in (one, new_id())}) == 4


async def test_sales_are_those_of_this_store(open_shop):
    first, second = await open_shop(), await open_shop(seller="bookstore-v2")
    await buy(first, quantity=2)
    await buy(second, quantity=3)
    assert (await first.stub.GetSales(pb.GetSalesRequest())).sales == pb.Sales(
        seller="bookstore-v1", orders=1, books_sold=2
    )
    assert (await second.stub.GetSales(pb.GetSalesRequest())).sales.books_sold == 3


async def test_sales_are_unavailable_with_the_warehouse(shop):
    shop.faults.add("GetTotals", "before", UNAVAILABLE, times=3)
    code, words = await code_of(shop.stub.GetSales(pb.GetSalesRequest()))
    assert code is UNAVAILABLE
    assert "the warehouse did not serve" in words


async def test_watchers_see_the_totals_now_and_after_sales(shop):
    await buy(shop)
    watch = shop.stub.WatchSales(pb.WatchSalesRequest())
    assert (await watch.read()).sales.orders == 1
    for _ in range(5):
        await buy(shop)
    seen = []
    async with asyncio.timeout(5):
        while not seen or seen[-1] < 6:
            seen.append((await watch.read()).sales.orders)
    assert seen == sorted(seen)
    await until(lambda: shop.status.counter("orders").value == 6)
    assert shop.status.counter("books_sold").value == 6
    watch.cancel()


async def test_a_watcher_that_does_not_read_holds_nobody_up(shop, store):
    lazy = [shop.stub.WatchSales(pb.WatchSalesRequest()) for _ in range(20)]
    for watch in lazy:
        await watch.read()
    store.add_books([], stock=0)
    async with asyncio.timeout(5):
        for _ in range(10):
            await buy(shop)
    await until(lambda: shop.board.latest.value.orders == 10)
    async with asyncio.timeout(5):
        while (await lazy[-1].read()).sales.orders < 10:
            pass
    for watch in lazy:
        watch.cancel()


async def test_the_board_finds_out_once_the_warehouse_is_back(shop, monkeypatch):
    monkeypatch.setattr("services.bookstore.sales._RETRY_SECONDS", 0.05)
    await until(lambda: "GetTotals" in shop.faults.calls)
    shop.faults.add("GetTotals", "before", UNAVAILABLE, times=3)
    await buy(shop)
    await until(lambda: shop.status.counter("orders").value == 1)


async def test_a_watch_of_an_unreachable_warehouse_says_so(shop):
    await until(lambda: "GetTotals" in shop.faults.calls)
    shop.faults.add("GetTotals", "before", UNAVAILABLE)
    watch = shop.stub.WatchSales(pb.WatchSalesRequest())
    assert (await code_of(watch.read()))[0] is UNAVAILABLE
