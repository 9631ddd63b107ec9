"""What every method does once it has a channel: asks for a title, and buys it without being entitled to.

As the original thief does, it says that it is the buyer; whoever believes a header is robbed.
"""

from __future__ import annotations

import uuid

import grpc

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2 as pb
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import BookstoreServiceStub
from services.bookthief.methods import Refused

_SECONDS = 5.0
_CLAIM = (("client-app", "bookbuyer"),)


async def take_a_book(channel: grpc.aio.Channel) -> int:
    """Copies on the receipt.

    Raises:
        Refused: with the store's status and message.
    """
    stub = BookstoreServiceStub(channel)
    try:
        page: pb.ListBooksResponse = await stub.ListBooks(
            pb.ListBooksRequest(page_size=1), timeout=_SECONDS, metadata=_CLAIM
        )
        if not page.books:
            raise Refused("the store has no books")
        request = pb.BuyBookRequest(purchase_id=str(uuid.uuid4()), book_id=page.books[0].book.book_id, quantity=1)
        response: pb.BuyBookResponse = await stub.BuyBook(request, timeout=_SECONDS, metadata=_CLAIM)
    except grpc.aio.AioRpcError as error:
        raise Refused(f"{error.code().name}: {error.details()}") from error
    return response.receipt.quantity
