"""Between gRPC messages and the store's values. Fields are checked here, on the way in."""

from __future__ import annotations

from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.api.bookwarehouse.v1 import bookwarehouse_pb2 as pb
from confidential_bookstore.serving import fields
from services.bookwarehouse.store import Book, Outcome, Reason, Receipt, Restock, Sale, Sold, StockedBook

_REASONS = {
    Reason.UNKNOWN_BOOK: pb.SaleRefusal.REASON_UNKNOWN_BOOK,
    Reason.OUT_OF_STOCK: pb.SaleRefusal.REASON_OUT_OF_STOCK,
    Reason.PURCHASE_ID_REUSED: pb.SaleRefusal.REASON_PURCHASE_ID_REUSED,
}


def sale_from(message: pb.Sale, seller: str) -> Sale:
    """A sale whose fields are well-formed.

    Raises:
        InvalidRequest: one is not.
    """
    return Sale(
        purchase_id=fields.checked_uuid("purchase_id", message.purchase_id),
        book_id=fields.checked_book_id(message.book_id),
        quantity=fields.checked_quantity(message.quantity),
        buyer=fields.checked_identity("buyer", message.buyer),
        seller=seller,
    )


def restock_from(message: pb.RestockBooksRequest) -> Restock:
    """A restock whose fields are well-formed.

    Raises:
        InvalidRequest: one is not.
    """
    return Restock(
        restock_id=fields.checked_uuid("restock_id", message.restock_id),
        book_id=fields.checked_book_id(message.book_id),
        copies=fields.checked_number("copies", message.copies, least=1, most=fields.MAX_RESTOCK),
    )


def result_of(outcome: Outcome) -> pb.SaleResult:
    """The message for one sale's outcome."""
    if isinstance(outcome, Sold):
        return pb.SaleResult(receipt=receipt_message(outcome.receipt), replayed=outcome.replayed)
    return pb.SaleResult(refusal=pb.SaleRefusal(reason=_REASONS[outcome.reason], message=outcome.message))


def invalid_result(message: str) -> pb.SaleResult:
    """The message for a sale that is not well-formed."""
    return pb.SaleResult(refusal=pb.SaleRefusal(reason=pb.SaleRefusal.REASON_INVALID, message=message))


def receipt_message(receipt: Receipt) -> books_pb2.Receipt:
    """The message for a stored order."""
    message = books_pb2.Receipt(
        purchase_id=receipt.sale.purchase_id,
        order_id=receipt.order_id,
        book=book_message(receipt.book),
        quantity=receipt.sale.quantity,
        seller=receipt.sale.seller,
        buyer=receipt.sale.buyer,
    )
    message.sold_at.FromDatetime(receipt.sold_at)
    return message


def book_message(book: Book) -> books_pb2.Book:
    """The message for a title."""
    return books_pb2.Book(book_id=book.book_id, title=book.title, author=book.author, year=book.year, isbn=book.isbn)


def stocked_message(stocked: StockedBook) -> books_pb2.StockedBook:
    """The message for a title and its stock."""
    return books_pb2.StockedBook(book=book_message(stocked.book), stock=stocked.stock)
