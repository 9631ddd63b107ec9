"""An ordinary process believes what it is told: that is what the other two stages are for."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import grpc
import pytest

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2 as pb
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import BookstoreServiceStub
from demo.plain.process import CLAIM, NOBODY
from services.bookthief.methods.plaintext import Plaintext

CALL = {"timeout": 5.0, "wait_for_ready": True}


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def start(service: str, folder: Path, listen: str, **environment: str) -> subprocess.Popen[bytes]:
    """Ends when its standard input does."""
    (folder / service).mkdir()
    own = {
        "EDG_MARBLE_TYPE": service,
        "CBS_LISTEN_ADDR": listen,
        "CBS_STATUS_ADDR": "127.0.0.1:0",
        "CBS_DATA_DIR": str(folder / service),
    }
    command = [sys.executable, "-m", "demo.plain", service]
    return subprocess.Popen(command, env=os.environ | own | environment, stdin=subprocess.PIPE)


@pytest.fixture
def store(tmp_path):
    """The address of a store that sells to everybody, with a warehouse behind it."""
    warehouse, store = free_address(), free_address()
    processes = [
        start("bookwarehouse", tmp_path, warehouse, CBS_STORE_KEY="0" * 64),
        start("bookstore", tmp_path, store, CBS_BOOKWAREHOUSE_ADDR=warehouse, CBS_SELLER="bookstore-v1"),
    ]
    try:
        yield store
    finally:
        for process in processes:
            process.stdin.close()
        codes = [process.wait(20) for process in processes]
    assert codes == [0, 0]


async def buy(stub: BookstoreServiceStub, **fields: str) -> pb.BuyBookResponse:
    claim = ((CLAIM, fields.pop("claim")),) if "claim" in fields else ()
    request = pb.BuyBookRequest(**{"purchase_id": str(uuid.uuid4()), "book_id": "emma", "quantity": 1, **fields})
    return await stub.BuyBook(request, metadata=claim, **CALL)


async def a_title(stub: BookstoreServiceStub) -> str:
    """As soon as the store has reached its warehouse."""
    async with asyncio.timeout(30):
        while True:
            try:
                page = await stub.ListBooks(pb.ListBooksRequest(page_size=1), **CALL)
                return page.books[0].book.book_id
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.1)


async def test_the_buyer_is_whoever_the_caller_says_it_is(store):
    async with grpc.aio.insecure_channel(store) as channel:
        stub = BookstoreServiceStub(channel)
        title = await a_title(stub)
        async with asyncio.timeout(20):
            assert (await buy(stub, book_id=title, claim="bookbuyer")).receipt.buyer == "bookbuyer"
            assert (await buy(stub, book_id=title)).receipt.buyer == NOBODY
            with pytest.raises(grpc.aio.AioRpcError) as refused:  # errors are what they are in a marble
                await buy(stub, book_id="no-such-book", claim="bookbuyer")
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
            watch = stub.WatchSales(pb.WatchSalesRequest(), wait_for_ready=True)
            assert (await watch.read()).sales.books_sold == 2
            watch.cancel()
        assert await Plaintext(store).steal() == 1


def test_a_service_that_does_not_exist_is_named():
    done = subprocess.run(
        [sys.executable, "-m", "demo.plain", "bookshop"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 3
    assert "got bookshop" in done.stderr
