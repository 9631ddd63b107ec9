"""What every store must do. Runs once per implementation (see `stores` in conftest.py)."""

from __future__ import annotations

import dataclasses
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from bookstore_world import BOOKS, new_id

from confidential_bookstore.errors import InvalidRequest, NotFound
from services.bookwarehouse.store import Book, Reason, Refused, Restock, Sale, Sold, StockedBook, Totals


def sale(book_id="emma", quantity=1, *, purchase_id=None, buyer="bookbuyer", seller="bookstore-v1") -> Sale:
    return Sale(purchase_id=purchase_id or new_id(), book_id=book_id, quantity=quantity, buyer=buyer, seller=seller)


def test_a_sale_yields_a_receipt_and_takes_from_the_stock(store):
    wanted = sale(quantity=3)
    before = datetime.now(UTC) - timedelta(seconds=1)
    (outcome,) = store.sell([wanted])
    assert isinstance(outcome, Sold)
    assert not outcome.replayed
    assert outcome.receipt.sale == wanted
    assert outcome.receipt.book == BOOKS[0]
    assert before < outcome.receipt.sold_at <= datetime.now(UTC)
    assert store.get("emma") == StockedBook(BOOKS[0], 7)
    assert store.totals() == Totals(orders=1, books_sold=3, books_restocked=0, stock=27)


def test_the_same_purchase_is_sold_once_and_has_one_receipt(store):
    wanted = sale(quantity=3)
    (first,) = store.sell([wanted])
    for _ in range(3):
        assert store.sell([wanted]) == [Sold(first.receipt, replayed=True)]
    assert store.totals().books_sold == 3
    assert store.get("emma").stock == 7


def test_a_receipt_survives_a_restart_to_the_microsecond(stores):
    odd = datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    first = stores.open(clock=lambda: odd)
    first.add_books(BOOKS, stock=1)
    wanted = sale("iliad")
    (sold,) = first.sell([wanted])
    first.close()
    again = stores.open()
    assert again.sell([wanted]) == [Sold(sold.receipt, replayed=True)]
    assert again.sell([wanted])[0].receipt.sold_at == odd


def test_a_retry_at_another_seller_gets_the_receipt_of_the_first(store):
    wanted = sale()
    (first,) = store.sell([wanted])
    before = store.totals()
    (again,) = store.sell([dataclasses.replace(wanted, seller="bookstore-v2")])
    assert again == Sold(first.receipt, replayed=True)
    assert again.receipt.sale.seller == wanted.seller
    assert store.totals() == before
    assert store.totals("bookstore-v2").orders == 0


def test_two_sellers_in_one_batch_sell_a_purchase_once(store):
    wanted = sale()
    first, again = store.sell([wanted, dataclasses.replace(wanted, seller="bookstore-v2")])
    assert (first.replayed, again.replayed) == (False, True)
    assert store.totals().orders == 1


@pytest.mark.parametrize(
    "change",
    [{"book_id": "iliad"}, {"book_id": "nowhere"}, {"quantity": 2}, {"buyer": "x"}],
)
def test_a_purchase_id_stands_for_one_purchase(store, change):
    wanted = sale()
    store.sell([wanted])
    before = store.totals()
    (outcome,) = store.sell([dataclasses.replace(wanted, **change)])
    assert isinstance(outcome, Refused)
    assert outcome.reason is Reason.PURCHASE_ID_REUSED
    assert store.totals() == before
    assert store.sell([wanted])[0].replayed


def test_what_was_sold_before_is_replayed_even_when_nothing_is_left(store):
    wanted = sale(quantity=10)
    (first,) = store.sell([wanted])
    assert store.sell([wanted]) == [Sold(first.receipt, replayed=True)]


def test_stock_is_sold_to_the_last_copy_and_no_further(store):
    assert isinstance(store.sell([sale(quantity=10)])[0], Sold)
    (outcome,) = store.sell([sale()])
    assert outcome.reason is Reason.OUT_OF_STOCK
    assert store.get("emma").stock == 0


def test_a_refused_sale_may_succeed_later_with_the_same_purchase_id(store):
    wanted = sale(quantity=11)
    assert store.sell([wanted])[0].reason is Reason.OUT_OF_STOCK
    store.restock(Restock(restock_id=new_id(), book_id="emma", copies=1))
    assert isinstance(store.sell([wanted])[0], Sold)
    assert store.get("emma").stock == 0


def test_each_sale_of_a_batch_has_its_own_outcome_in_order(store):
    repeated = sale("iliad", 2)
    batch = [
        sale(quantity=6),
        sale("nowhere"),
        sale(quantity=6),  # only 4 are left
        repeated,
        repeated,
        dataclasses.replace(repeated, quantity=3),
        sale(quantity=4, seller="bookstore-v2"),
    ]
    outcomes = store.sell(batch)
    assert [o.reason if isinstance(o, Refused) else o.replayed for o in outcomes] == [
        False,
        Reason.UNKNOWN_BOOK,
        Reason.OUT_OF_STOCK,
        False,
        True,
        Reason.PURCHASE_ID_REUSED,
        False,
    ]
    assert outcomes[3].receipt == outcomes[4].receipt
    assert store.totals("bookstore-v1") == Totals(orders=2, books_sold=8, books_restocked=0, stock=18)
    assert store.totals("bookstore-v2") == Totals(orders=1, books_sold=4, books_restocked=0, stock=18)
    assert store.totals() == Totals(orders=3, books_sold=12, books_restocked=0, stock=18)


def test_nothing_sold_is_nothing_counted(store):
    assert store.sell([]) == []
    assert store.totals("bookstore-v1") == Totals(orders=0, books_sold=0, books_restocked=0, stock=30)


def test_a_restock_adds_once(store):
    restock = Restock(restock_id=new_id(), book_id="emma", copies=5)
    assert store.restock(restock).stock == 15
    assert store.restock(restock).stock == 15
    store.sell([sale(quantity=15)])
    assert store.restock(restock).stock == 0
    assert store.totals() == Totals(orders=1, books_sold=15, books_restocked=5, stock=20)


@pytest.mark.parametrize("change", [{"book_id": "iliad"}, {"copies": 6}])
def test_a_restock_id_stands_for_one_restock(store, change):
    restock = Restock(restock_id=new_id(), book_id="emma", copies=5)
    store.restock(restock)
    with pytest.raises(InvalidRequest, match="another restock"):
        store.restock(dataclasses.replace(restock, **change))
    assert store.totals().books_restocked == 5


def test_unknown_books(store):
    with pytest.raises(NotFound):
        store.get("nowhere")
    with pytest.raises(NotFound):
        store.restock(Restock(restock_id=new_id(), book_id="nowhere", copies=1))
    assert store.totals().books_restocked == 0


def test_pages_follow_each_other_in_order(store):
    assert [b.book.book_id for b in store.list_page(after="", limit=2)] == ["emma", "iliad"]
    assert [b.book.book_id for b in store.list_page(after="iliad", limit=2)] == ["les-miserables"]
    assert store.list_page(after="les-miserables", limit=2) == []
    assert store.list_page(after="f", limit=1) == [StockedBook(BOOKS[1], 10)]


def test_the_catalogue_is_loaded_once_and_a_restart_keeps_the_stock(stores):
    first = stores.open()
    assert first.add_books(BOOKS[:2], stock=10) == 2
    first.sell([sale(quantity=4)])
    first.close()
    again = stores.open()
    assert again.add_books([dataclasses.replace(BOOKS[0], title="Emma!"), *BOOKS[1:]], stock=99) == 1
    assert again.get("emma") == StockedBook(BOOKS[0], 6)
    assert again.get("les-miserables").stock == 99
    assert again.totals().books_sold == 4


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE books; --",
        '" OR ""="',
        "%",
        "\\",
        "emma'--",
        "Ω≈ç√ 書店 كتاب 📚‍🏴‍☠️",
        "x" * 10_000,
        ":1",
        "?",
        "a\x00b",
    ],
)
def test_text_is_never_taken_for_sql(store, text):
    outcomes = store.sell([sale(text), sale(buyer=text, seller=text), sale(purchase_id=text)])
    assert outcomes[0].reason is Reason.UNKNOWN_BOOK
    assert outcomes[1].receipt.sale.buyer == text
    assert store.sell([sale(purchase_id=text)])[0].replayed
    assert store.totals(text).orders == 1
    with pytest.raises(NotFound):
        store.get(text)
    store.add_books([Book(book_id="odd", title=text, author=text, year=0)], stock=1)
    assert store.get("odd").book.title == text
    assert store.totals().orders == 2


def test_threads_sell_every_copy_exactly_once(store):
    store.restock(Restock(restock_id=new_id(), book_id="emma", copies=90))
    outcomes = []

    def buy() -> None:
        outcomes.extend(outcome for _ in range(30) for outcome in store.sell([sale()]))

    threads = [threading.Thread(target=buy) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    sold = [outcome for outcome in outcomes if isinstance(outcome, Sold)]
    assert len(sold) == 100
    assert len({outcome.receipt.order_id for outcome in sold}) == 100
    assert len(outcomes) == 120
    assert store.get("emma").stock == 0
    assert store.totals().books_sold == 100


def test_racing_attempts_of_one_purchase_sell_once(stores, store):
    second = stores.open()  # another connection to the same place
    wanted = sale()
    outcomes = []

    def attempt(through) -> None:
        for _ in range(20):
            outcomes.extend(through.sell([wanted]))

    threads = [threading.Thread(target=attempt, args=(through,)) for through in (store, second)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({outcome.receipt for outcome in outcomes}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert second.totals().orders == 1
