"""Any sequence of sales, restocks and restarts, compared with a model that fits on one page."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from bookstore_world import BOOKS, KEY, new_id
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from sqlalchemy import func, select

from confidential_bookstore.errors import InvalidRequest
from confidential_bookstore.secret import Secret
from services.bookwarehouse import schema
from services.bookwarehouse.embedded import EmbeddedStore
from services.bookwarehouse.engine import transaction
from services.bookwarehouse.store import Reason, Restock, Sale, Sold

book_ids = st.sampled_from([book.book_id for book in BOOKS] + ["nowhere"])
quantities = st.integers(1, 7)
sellers = st.sampled_from(["bookstore-v1", "bookstore-v2"])


class StoreAgainstModel(RuleBasedStateMachine):
    sales = Bundle("sales")
    restocks = Bundle("restocks")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.stock = {book.book_id: 10 for book in BOOKS}
        self.sold: dict[str, Sold] = {}
        self.restocked: dict[str, Restock] = {}
        self.open()

    def open(self) -> None:
        self.store = EmbeddedStore(Path(self.folder.name) / "books.db", Secret(KEY))
        self.store.add_books(BOOKS, stock=10)

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def check(self, sale: Sale, outcome) -> None:
        earlier = self.sold.get(sale.purchase_id)
        left = self.stock.get(sale.book_id)
        if earlier and earlier.receipt.sale == replace(sale, seller=earlier.receipt.sale.seller):
            assert outcome == Sold(earlier.receipt, replayed=True)
        elif earlier:
            assert outcome.reason is Reason.PURCHASE_ID_REUSED
        elif left is None:
            assert outcome.reason is Reason.UNKNOWN_BOOK
        elif left < sale.quantity:
            assert outcome.reason is Reason.OUT_OF_STOCK
        else:
            assert isinstance(outcome, Sold)
            assert not outcome.replayed
            self.sold[sale.purchase_id] = outcome
            self.stock[sale.book_id] -= sale.quantity

    @rule(target=sales, wishes=st.lists(st.tuples(book_ids, quantities, sellers), min_size=1, max_size=8))
    def sell(self, wishes):
        batch = [
            Sale(purchase_id=new_id(), book_id=book, quantity=quantity, buyer="bookbuyer", seller=seller)
            for book, quantity, seller in wishes
        ]
        self.sell_batch(batch)
        return multiple(*batch)

    @rule(batch=st.lists(sales, max_size=5))
    def repeat(self, batch):
        self.sell_batch(batch)

    @rule(sale=sales, book=book_ids, quantity=quantities, seller=sellers)
    def reuse_a_purchase_id(self, sale, book, quantity, seller):
        self.sell_batch(
            [Sale(purchase_id=sale.purchase_id, book_id=book, quantity=quantity, buyer=sale.buyer, seller=seller)]
        )

    @rule(sale=sales, seller=sellers)
    def ask_at_whichever_seller(self, sale, seller):
        self.sell_batch([replace(sale, seller=seller)])

    def sell_batch(self, batch):
        outcomes = self.store.sell(batch)
        assert len(outcomes) == len(batch)
        for sale, outcome in zip(batch, outcomes, strict=True):
            self.check(sale, outcome)

    @rule(target=restocks, book=st.sampled_from([book.book_id for book in BOOKS]), copies=quantities)
    def restock(self, book, copies):
        restock = Restock(restock_id=new_id(), book_id=book, copies=copies)
        self.stock[book] += copies
        self.restocked[restock.restock_id] = restock
        assert self.store.restock(restock).stock == self.stock[book]
        return restock

    @rule(restock=restocks)
    def repeat_restock(self, restock):
        assert self.store.restock(restock).stock == self.stock[restock.book_id]

    @rule(restock=consumes(restocks), more=quantities)
    def reuse_a_restock_id(self, restock, more):
        with pytest.raises(InvalidRequest):
            self.store.restock(
                Restock(restock_id=restock.restock_id, book_id=restock.book_id, copies=restock.copies + more)
            )

    @rule()
    def restart(self):
        self.store.close()
        self.open()

    @invariant()
    def totals_are_the_sums_of_what_was_sold(self):
        quantity: Counter[str] = Counter()
        orders: Counter[str] = Counter()
        for outcome in self.sold.values():
            for seller in (outcome.receipt.sale.seller, ""):
                orders[seller] += 1
                quantity[seller] += outcome.receipt.sale.quantity
        for seller in ("bookstore-v1", "bookstore-v2", ""):
            totals = self.store.totals(seller)
            assert (totals.orders, totals.books_sold) == (orders[seller], quantity[seller])
        assert totals.books_restocked == sum(restock.copies for restock in self.restocked.values())
        assert totals.stock == sum(self.stock.values()) == 30 + totals.books_restocked - totals.books_sold

    @invariant()
    def running_totals_repeat_the_tables(self):
        with transaction(self.store._engine) as connection:
            stored = connection.execute(select(func.count(), func.coalesce(func.sum(schema.orders.c.quantity), 0)))
            restocked = connection.execute(select(func.coalesce(func.sum(schema.restocks.c.copies), 0)))
            totals = (*stored.one(), restocked.scalar_one())
        running = self.store.totals()
        assert totals == (running.orders, running.books_sold, running.books_restocked)

    @invariant()
    def stock_is_as_in_the_model_and_never_negative(self):
        shelf = {stocked.book.book_id: stocked.stock for stocked in self.store.list_page(after="", limit=10)}
        assert shelf == self.stock
        assert min(shelf.values()) >= 0


StoreAgainstModel.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoreAgainstModel = StoreAgainstModel.TestCase
