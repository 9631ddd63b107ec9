"""The store in one encrypted file: needs nothing but pip, and a key from the coordinator."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from confidential_bookstore.errors import BookstoreError, InvalidRequest, NotFound, SealedStateError
from confidential_bookstore.secret import Secret
from services.bookwarehouse import schema
from services.bookwarehouse.decide import decide
from services.bookwarehouse.engine import open_engine, transaction
from services.bookwarehouse.store import Book, Outcome, Receipt, Restock, Sale, Sold, StockedBook, Totals

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class EmbeddedStore:
    """Implements `Store` on SQLCipher. Any thread may call it; calls run one after the other."""

    def __init__(self, path: Path, key: Secret[bytes], *, clock: Callable[[], datetime] = _utc_now) -> None:
        """Open the file, and make the tables if it is new.

        Raises:
            StoreUnavailable: the file cannot be opened.
            SealedStateError: the key is wrong, the file was changed, or it is of another schema version.
        """
        self._clock = clock
        self._engine = open_engine(path, key)
        try:
            self._make_tables()
        except BookstoreError:
            self._engine.dispose()
            raise

    def _make_tables(self) -> None:
        with transaction(self._engine) as connection:
            schema.metadata.create_all(connection)
            found = connection.execute(select(schema.schema_version.c.version)).scalars().all()
            if not found:
                connection.execute(insert(schema.schema_version).values(version=schema.SCHEMA_VERSION))
            elif found != [schema.SCHEMA_VERSION]:
                raise SealedStateError(
                    "the store is of another schema version", got=found, expected=schema.SCHEMA_VERSION
                )

    def add_books(self, books: Sequence[Book], *, stock: int) -> int:
        """See `Store`."""
        with transaction(self._engine) as connection:
            known = set(connection.execute(select(schema.books.c.book_id)).scalars())
            rows = [{**asdict(book), "stock": stock} for book in books if book.book_id not in known]
            if rows:
                connection.execute(insert(schema.books), rows)
            return len(rows)

    def sell(self, sales: Sequence[Sale]) -> list[Outcome]:
        """See `Store`."""
        with transaction(self._engine) as connection:
            outcomes = decide(
                sales,
                shelf=_shelf(connection, {sale.book_id for sale in sales}),
                stored=_stored(connection, {sale.purchase_id for sale in sales}),
                sold_at=self._clock(),
                new_order_id=lambda: str(uuid.uuid4()),
            )
            _write(connection, [o.receipt for o in outcomes if isinstance(o, Sold) and not o.replayed])
        return outcomes

    def restock(self, restock: Restock) -> StockedBook:
        """See `Store`."""
        table = schema.restocks
        with transaction(self._engine) as connection:
            stocked = _one_book(connection, restock.book_id)
            earlier = connection.execute(select(table).where(table.c.restock_id == restock.restock_id)).one_or_none()
            if earlier is not None:
                if (earlier.book_id, earlier.copies) != (restock.book_id, restock.copies):
                    raise InvalidRequest(f"restock_id {restock.restock_id} stands for another restock already")
                return stocked
            connection.execute(
                insert(table).values(restock_id=restock.restock_id, book_id=restock.book_id, copies=restock.copies)
            )
            connection.execute(
                update(schema.books)
                .where(schema.books.c.book_id == restock.book_id)
                .values(
                    stock=schema.books.c.stock + restock.copies, restocked=schema.books.c.restocked + restock.copies
                )
            )
            return StockedBook(stocked.book, stocked.stock + restock.copies)

    def get(self, book_id: str) -> StockedBook:
        """See `Store`."""
        with transaction(self._engine) as connection:
            return _one_book(connection, book_id)

    def list_page(self, *, after: str, limit: int) -> list[StockedBook]:
        """See `Store`."""
        table = schema.books
        query = select(table).where(table.c.book_id > after).order_by(table.c.book_id).limit(limit)
        with transaction(self._engine) as connection:
            return [_stocked_book(row) for row in connection.execute(query)]

    def totals(self, seller: str = "") -> Totals:
        """See `Store`."""
        table = schema.seller_totals
        sold = select(func.coalesce(func.sum(table.c.orders), 0), func.coalesce(func.sum(table.c.books_sold), 0))
        if seller:
            sold = sold.where(table.c.seller == seller)
        shelves = select(
            func.coalesce(func.sum(schema.books.c.restocked), 0), func.coalesce(func.sum(schema.books.c.stock), 0)
        )
        with transaction(self._engine) as connection:
            orders, books_sold = connection.execute(sold).one()
            restocked, stock = connection.execute(shelves).one()
        return Totals(orders=orders, books_sold=books_sold, books_restocked=restocked, stock=stock)

    def close(self) -> None:
        """See `Store`."""
        self._engine.dispose()


def _book(row: Row[Any]) -> Book:
    return Book(book_id=row.book_id, title=row.title, author=row.author, year=row.year, isbn=row.isbn)


def _stocked_book(row: Row[Any]) -> StockedBook:
    return StockedBook(_book(row), row.stock)


def _receipt(row: Row[Any]) -> Receipt:
    sale = Sale(
        purchase_id=row.purchase_id, book_id=row.book_id, quantity=row.quantity, buyer=row.buyer, seller=row.seller
    )
    return Receipt(order_id=row.order_id, sale=sale, book=_book(row), sold_at=_EPOCH + row.sold_at * _MICROSECOND)


def _one_book(connection: Connection, book_id: str) -> StockedBook:
    row = connection.execute(select(schema.books).where(schema.books.c.book_id == book_id)).one_or_none()
    if row is None:
        raise NotFound("no book has this book_id")
    return _stocked_book(row)


def _shelf(connection: Connection, book_ids: Iterable[str]) -> dict[str, StockedBook]:
    rows = connection.execute(select(schema.books).where(schema.books.c.book_id.in_(book_ids)))
    return {row.book_id: _stocked_book(row) for row in rows}


def _stored(connection: Connection, purchase_ids: Iterable[str]) -> dict[str, Receipt]:
    table, books = schema.orders, schema.books
    rows = connection.execute(
        select(table, books.c.title, books.c.author, books.c.year, books.c.isbn)
        .join_from(table, books)
        .where(table.c.purchase_id.in_(purchase_ids))
    )
    return {row.purchase_id: _receipt(row) for row in rows}


def _write(connection: Connection, receipts: Sequence[Receipt]) -> None:
    """Orders, stock and totals of new sales."""
    if not receipts:
        return
    connection.execute(
        insert(schema.orders),
        [
            {
                **asdict(receipt.sale),
                "order_id": receipt.order_id,
                "sold_at": (receipt.sold_at - _EPOCH) // _MICROSECOND,
            }
            for receipt in receipts
        ],
    )
    copies: Counter[str] = Counter()
    for receipt in receipts:
        copies[receipt.sale.book_id] += receipt.sale.quantity
    connection.execute(
        update(schema.books)
        .where(schema.books.c.book_id == bindparam("which"))
        .values(stock=schema.books.c.stock - bindparam("copies")),
        [{"which": book_id, "copies": count} for book_id, count in copies.items()],
    )
    _add_to_totals(connection, receipts)


def _add_to_totals(connection: Connection, receipts: Sequence[Receipt]) -> None:
    table = schema.seller_totals
    for seller in {receipt.sale.seller for receipt in receipts}:
        quantities = [receipt.sale.quantity for receipt in receipts if receipt.sale.seller == seller]
        more = {"orders": table.c.orders + len(quantities), "books_sold": table.c.books_sold + sum(quantities)}
        updated = connection.execute(update(table).where(table.c.seller == seller).values(more))
        if updated.rowcount == 0:
            connection.execute(insert(table).values(seller=seller, orders=len(quantities), books_sold=sum(quantities)))
