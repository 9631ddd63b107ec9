"""The warehouse over real gRPC, with the real store."""

from __future__ import annotations

import asyncio
import threading

import grpc
import pytest
from bookstore_world import BOOKS, code_of, new_id, serving, stub_for

from confidential_bookstore.api.bookwarehouse.v1 import bookwarehouse_pb2 as pb
from confidential_bookstore.api.bookwarehouse.v1.bookwarehouse_pb2_grpc import (
    BookwarehouseServiceStub,
    add_BookwarehouseServiceServicer_to_server,
)
from confidential_bookstore.errors import StoreUnavailable
from services.bookwarehouse.catalogue import load_catalogue
from services.bookwarehouse.service import BookwarehouseService
from services.bookwarehouse.store import Sold

Reason = pb.SaleRefusal


@pytest.fixture
async def service(store, thread, status):
    made = BookwarehouseService(store, thread, status)
    await made.start()
    return made


@pytest.fixture
async def stub(service):
    async with (
        serving(add_BookwarehouseServiceServicer_to_server, service) as address,
        stub_for(BookwarehouseServiceStub, address) as made,
    ):
        yield made


def sale(book_id="emma", quantity=1, **fields) -> pb.Sale:
    return pb.Sale(**{"purchase_id": new_id(), "book_id": book_id, "quantity": quantity, "buyer": "bookbuyer"} | fields)


async def sell(stub, *sales, seller="bookstore-v1"):
    return list((await stub.SellBooks(pb.SellBooksRequest(seller=seller, sales=sales))).results)


async def test_a_receipt_says_everything(stub):
    wanted = sale("les-miserables", 2)
    (result,) = await sell(stub, wanted)
    receipt = result.receipt
    assert (receipt.purchase_id, receipt.quantity, receipt.seller, receipt.buyer) == (
        wanted.purchase_id,
        2,
        "bookstore-v1",
        "bookbuyer",
    )
    assert (receipt.book.title, receipt.book.author, receipt.book.year) == ("Les Misérables", "Victor Hugo", 1862)
    assert receipt.order_id != receipt.purchase_id
    assert receipt.sold_at.seconds > 1_700_000_000
    (again,) = await sell(stub, wanted)
    assert again.receipt == receipt
    assert again.replayed


async def test_a_purchase_id_is_the_same_in_capitals(stub):
    wanted = sale()
    (first,) = await sell(stub, wanted)
    wanted.purchase_id = wanted.purchase_id.upper()
    (again,) = await sell(stub, wanted)
    assert again.replayed
    assert again.receipt == first.receipt


async def test_items_succeed_or_fail_by_themselves(stub, counters):
    good = sale(quantity=4)
    results = await sell(
        stub,
        sale(quantity=0),
        good,
        sale("nowhere"),
        sale(quantity=7),
        sale(purchase_id=good.purchase_id, quantity=1),
        sale(buyer=""),
        good,
        sale(quantity=6),
    )
    assert [r.refusal.reason if r.HasField("refusal") else "sold" for r in results] == [
        Reason.REASON_INVALID,
        "sold",
        Reason.REASON_UNKNOWN_BOOK,
        Reason.REASON_OUT_OF_STOCK,
        Reason.REASON_PURCHASE_ID_REUSED,
        Reason.REASON_INVALID,
        "sold",
        "sold",
    ]
    assert [r.replayed for r in results] == [False] * 6 + [True, False]
    assert all(r.refusal.message for r in results if r.HasField("refusal"))
    assert counters() == {"orders": 2, "books_sold": 10, "books_restocked": 0, "stock_total": 20}


BAD_TEXTS = [
    "",
    " ",
    "'; DROP TABLE books; --",
    "../../etc/passwd",
    "Ωβγ",
    "書店",
    "كتاب",
    "ספר",
    "किताब",
    "📚🏴‍☠️",
    "a\u202eb",
    "line\nbreak",
    "nul\x00",
    "x" * 10_240,
    "{{.Secrets}}",
    "%s%n",
]
BAD_UUIDS = [
    "00000000-0000-0000-0000-00000000000",
    "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
    "urn:uuid:6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "6ba7b8109dad11d180b400c04fd430c8",
    "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
    "\uff16ba7b810-9dad-11d1-80b4-00c04fd430c8",
]
BAD_QUANTITIES = [0, -1, 1001, 2**31 - 1, -(2**31)]


@pytest.mark.parametrize("field", ["purchase_id", "book_id", "buyer"])
async def test_malformed_text_is_refused_in_every_field(stub, field, store):
    results = await sell(stub, *[sale(**{field: text}) for text in BAD_TEXTS])
    assert {r.refusal.reason for r in results} == {Reason.REASON_INVALID}
    assert all(r.refusal.message.isascii() and len(r.refusal.message) < 300 for r in results)
    assert all(field in r.refusal.message for r in results)
    assert store.totals().orders == 0


async def test_malformed_numbers_and_uuids_are_refused(stub, store):
    sales = [sale(quantity=number) for number in BAD_QUANTITIES] + [sale(purchase_id=text) for text in BAD_UUIDS]
    assert {r.refusal.reason for r in await sell(stub, *sales)} == {Reason.REASON_INVALID}
    assert store.totals().orders == 0


@pytest.mark.parametrize("seller", BAD_TEXTS)
async def test_a_malformed_seller_refuses_the_whole_request(stub, store, seller):
    code, words = await code_of(stub.SellBooks(pb.SellBooksRequest(seller=seller, sales=[sale()])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "seller" in words
    assert words.isascii()
    assert store.totals().orders == 0


@pytest.mark.parametrize("count", [0, 257])
async def test_the_number_of_sales_is_bounded(stub, count):
    request = pb.SellBooksRequest(seller="s", sales=[sale() for _ in range(count)])
    code, words = await code_of(stub.SellBooks(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "1 to 256" in words


async def test_256_sales_are_sold_at_once(stub, service, store):
    store.add_books(load_catalogue()[:256], stock=1)
    results = await sell(stub, *[sale(book.book_id) for book in load_catalogue()[:256]])
    assert all(r.HasField("receipt") for r in results)


async def test_restock(stub, counters):
    request = pb.RestockBooksRequest(restock_id=new_id(), book_id="emma", copies=1_000_000)
    for _ in range(2):
        assert (await stub.RestockBooks(request)).book.stock == 1_000_010
    assert counters()["books_restocked"] == 1_000_000
    assert counters()["stock_total"] == 1_000_030
    totals = await stub.GetTotals(pb.GetTotalsRequest())
    assert totals.books_restocked == 1_000_000


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"copies": 0}, "INVALID_ARGUMENT"),
        ({"copies": -5}, "INVALID_ARGUMENT"),
        ({"copies": 1_000_001}, "INVALID_ARGUMENT"),
        ({"copies": 2**63 - 1}, "INVALID_ARGUMENT"),
        ({"restock_id": "x"}, "INVALID_ARGUMENT"),
        ({"book_id": "Emma"}, "INVALID_ARGUMENT"),
        ({"book_id": "nowhere"}, "NOT_FOUND"),
    ],
)
async def test_bad_restocks(stub, store, fields, code):
    request = pb.RestockBooksRequest(**{"restock_id": new_id(), "book_id": "emma", "copies": 1} | fields)
    assert (await code_of(stub.RestockBooks(request)))[0].name == code
    assert store.totals().books_restocked == 0


async def test_stock_and_unknown_books(stub):
    assert (await stub.GetStock(pb.GetStockRequest(book_id="emma"))).book.stock == 10
    assert (await code_of(stub.GetStock(pb.GetStockRequest(book_id="nowhere"))))[0] is grpc.StatusCode.NOT_FOUND
    for text in BAD_TEXTS:
        assert (await code_of(stub.GetStock(pb.GetStockRequest(book_id=text))))[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("size", [1, 2, 3, 0, 500])
async def test_pages_hold_every_book_once(stub, store, size):
    store.add_books(load_catalogue(), stock=1)
    found, token = [], ""
    while True:
        page = await stub.ListBooks(pb.ListBooksRequest(page_size=size, page_token=token))
        assert len(page.books) <= (size or 100)
        found += [stocked.book.book_id for stocked in page.books]
        token = page.next_page_token
        if not token:
            break
    assert found == sorted({book.book_id for book in [*load_catalogue(), *BOOKS]})


async def test_the_last_page_says_so_even_when_it_is_full(stub):
    page = await stub.ListBooks(pb.ListBooksRequest(page_size=3))
    assert len(page.books) == 3
    assert page.next_page_token == ""


@pytest.mark.parametrize("fields", [{"page_size": -1}, {"page_size": 501}, *[{"page_token": t} for t in BAD_TEXTS[1:]]])
async def test_bad_pages(stub, fields):
    assert (await code_of(stub.ListBooks(pb.ListBooksRequest(**fields))))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_totals_by_seller(stub):
    await sell(stub, sale(quantity=2))
    await sell(stub, sale(quantity=3), seller="bookstore-v2")
    assert (await stub.GetTotals(pb.GetTotalsRequest(seller="bookstore-v2"))).books_sold == 3
    assert (await stub.GetTotals(pb.GetTotalsRequest(seller="nobody"))).books_sold == 0
    everybody = await stub.GetTotals(pb.GetTotalsRequest())
    assert (everybody.orders, everybody.books_sold) == (2, 5)
    assert (await code_of(stub.GetTotals(pb.GetTotalsRequest(seller="'"))))[0] is grpc.StatusCode.INVALID_ARGUMENT


class SlowStore:
    """Delegates; a sale waits until it is let go, and may fail."""

    def __init__(self, store) -> None:
        self._store = store
        self.entered = threading.Event()
        self.go = threading.Event()
        self.failures = 0

    def sell(self, sales):
        self.entered.set()
        assert self.go.wait(5)
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk is full")
        return self._store.sell(sales)

    def __getattr__(self, name):
        return getattr(self._store, name)


async def test_a_sale_goes_on_when_its_caller_leaves_and_the_loop_stays_free(store, thread, status, counters):
    slow = SlowStore(store)
    service = BookwarehouseService(slow, thread, status)
    await service.start()
    async with (
        serving(add_BookwarehouseServiceServicer_to_server, service) as address,
        stub_for(BookwarehouseServiceStub, address) as stub,
    ):
        wanted = sale()
        call = stub.SellBooks(pb.SellBooksRequest(seller="s", sales=[wanted]))
        await asyncio.to_thread(slow.entered.wait, 5)  # the loop is not blocked, or this would not return
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        slow.go.set()
        (again,) = await sell(stub, wanted, seller="s")
        assert again.replayed
        assert counters()["orders"] == 1


async def test_a_store_that_fails_is_unavailable_and_nothing_is_counted(store, thread, status, counters):
    slow = SlowStore(store)
    slow.go.set()
    slow.failures = 1
    service = BookwarehouseService(slow, thread, status)
    await service.start()
    async with (
        serving(add_BookwarehouseServiceServicer_to_server, service) as address,
        stub_for(BookwarehouseServiceStub, address) as stub,
    ):
        request = pb.SellBooksRequest(seller="s", sales=[sale()])
        assert await code_of(stub.SellBooks(request)) == (grpc.StatusCode.UNAVAILABLE, "the disk is full")
        assert counters()["orders"] == 0
        assert not (await stub.SellBooks(request)).results[0].replayed


async def test_counters_start_from_what_is_stored(store, thread, status, counters):
    from services.bookwarehouse.store import Sale

    (outcome,) = store.sell([Sale(purchase_id=new_id(), book_id="emma", quantity=3, buyer="b", seller="s")])
    assert isinstance(outcome, Sold)
    await BookwarehouseService(store, thread, status).start()
    assert counters() == {"orders": 1, "books_sold": 3, "books_restocked": 0, "stock_total": 27}


async def test_many_callers_get_every_copy_once(stub, store):
    results = await asyncio.gather(*[sell(stub, sale()) for _ in range(40)])
    sold = [r.receipt.order_id for (r,) in results if r.HasField("receipt")]
    assert len(sold) == len(set(sold)) == 10
    assert {r.refusal.reason for (r,) in results if r.HasField("refusal")} == {Reason.REASON_OUT_OF_STOCK}
    assert store.get("emma").stock == 0
