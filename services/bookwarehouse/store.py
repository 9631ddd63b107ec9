"""What a store of books and orders can do, in values that know nothing of gRPC or SQL.

A store is synchronous and is called from one thread. Every method is one transaction: when it returns, its effect is
durable; when it raises, there is none.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """A title. `year` is that of first publication, negative before the common era; `isbn` may be empty."""

    book_id: str
    title: str
    author: str
    year: int
    isbn: str = ""


@dataclass(frozen=True, slots=True)
class StockedBook:
    """A title and how many copies of it can still be sold."""

    book: Book
    stock: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """What a bookstore asks for. `purchase_id` is the buyer's, and the same in every attempt, at whichever seller."""

    purchase_id: str
    book_id: str
    quantity: int
    buyer: str
    seller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A stored order. `sold_at` is in UTC, to the microsecond."""

    order_id: str
    sale: Sale
    book: Book
    sold_at: datetime


class Reason(enum.Enum):
    """Why a sale was refused. Refusals are not stored: the same sale may succeed later."""

    UNKNOWN_BOOK = "unknown book"
    OUT_OF_STOCK = "out of stock"
    PURCHASE_ID_REUSED = "purchase_id reused"


@dataclass(frozen=True, slots=True)
class Sold:
    """The sale is stored. `replayed`: it was stored before, perhaps for another seller, and nothing was sold now."""

    receipt: Receipt
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The sale is not stored."""

    reason: Reason
    message: str


Outcome = Sold | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Restock:
    """Copies to add. `restock_id` is the caller's, and the same in every attempt."""

    restock_id: str
    book_id: str
    copies: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over stored orders, and over the whole stock."""

    orders: int
    books_sold: int
    books_restocked: int
    stock: int


class Store(Protocol):
    """Where books and orders are kept.

    Every method raises `StoreUnavailable` when the store cannot be reached or written, and `SealedStateError` when
    what is stored cannot be read with this key.
    """

    def add_books(self, books: Sequence[Book], *, stock: int) -> int:
        """Put titles that are not there yet on the shelf; returns how many. Titles that are there stay as they are."""
        ...

    def sell(self, sales: Sequence[Sale]) -> list[Outcome]:
        """Decide and store sales, in this order, in one transaction; one outcome per sale."""
        ...

    def restock(self, restock: Restock) -> StockedBook:
        """Add copies once per `restock_id`.

        Raises:
            NotFound: there is no such book.
            InvalidRequest: the restock_id stands for another restock already.
        """
        ...

    def get(self, book_id: str) -> StockedBook:
        """One title.

        Raises:
            NotFound: there is no such book.
        """
        ...

    def list_page(self, *, after: str, limit: int) -> list[StockedBook]:
        """Up to `limit` titles whose book_id comes after `after` ("" for the first page), ordered by book_id."""
        ...

    def totals(self, seller: str = "") -> Totals:
        """Orders and copies of one seller, or of all ("")."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
