"""The tables. Plain SQL types only, so that any database SQLAlchemy speaks to can hold them.

`seller_totals` and `books.restocked` repeat what `orders` and `restocks` say, and are written in the same transaction
as these. Reading a total then costs the same after ten million orders as after ten; a SUM over the orders would not.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Integer, MetaData, String, Table

SCHEMA_VERSION = 1

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

books = Table(
    "books",
    metadata,
    Column("book_id", String(100), primary_key=True),
    Column("title", String(300), nullable=False),
    Column("author", String(300), nullable=False),
    Column("year", Integer, nullable=False),
    Column("isbn", String(13), nullable=False),
    Column("stock", BigInteger, CheckConstraint("stock >= 0", name="stock_not_negative"), nullable=False),
    Column("restocked", BigInteger, nullable=False, default=0),
)

orders = Table(
    "orders",
    metadata,
    Column("purchase_id", String(36), primary_key=True),
    Column("order_id", String(36), nullable=False, unique=True),
    Column("book_id", ForeignKey("books.book_id"), nullable=False),
    Column("quantity", Integer, CheckConstraint("quantity > 0", name="quantity_positive"), nullable=False),
    Column("buyer", String(63), nullable=False),
    Column("seller", String(63), nullable=False),
    Column("sold_at", BigInteger, nullable=False, comment="microseconds since 1970, UTC"),
)

restocks = Table(
    "restocks",
    metadata,
    Column("restock_id", String(36), primary_key=True),
    Column("book_id", ForeignKey("books.book_id"), nullable=False),
    Column("copies", BigInteger, CheckConstraint("copies > 0", name="copies_positive"), nullable=False),
)

seller_totals = Table(
    "seller_totals",
    metadata,
    Column("seller", String(63), primary_key=True),
    Column("orders", BigInteger, nullable=False),
    Column("books_sold", BigInteger, nullable=False),
)
