"""What the host sees: every connection recorded, every file read. No title, no purchase, no key is in them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from auditor import Keys, ask_for_keys, bought, journalled, stored, titles
from recorder import Recorder

from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.api.bookstore.v1 import bookstore_pb2, bookstore_pb2_grpc
from demo.topology import CLIENT_PORT, MESH_PORT, PCCS_PORT, SERVICE_PORT, Topology

pytestmark = pytest.mark.e2e
WIRES = {
    # variable, port of the proxy at .210 and up, whom it passes on to
    "EDG_MARBLE_COORDINATOR_ADDR": (210, MESH_PORT, "coordinator"),
    "CBS_COORDINATOR_CLIENT_ADDR": (210, CLIENT_PORT, "coordinator"),
    "CBS_BOOKWAREHOUSE_ADDR": (211, SERVICE_PORT, "bookwarehouse"),
    "CBS_BOOKSTORE_ADDR": (212, SERVICE_PORT, "bookstore"),
}


@dataclass(frozen=True, slots=True)
class ThroughRecorders(Topology):
    """Everybody dials a recorder instead of the other one."""

    def environment(self, service: str) -> dict[str, str]:
        own = Topology.environment(self, service)
        for variable, (number, port, _) in WIRES.items():
            if variable in own:
                own[variable] = f"{self.network}.{number}:{port}"
        own["CBS_PCCS_URL"] = f"http://{self.network}.210:{PCCS_PORT}"
        return own


def needles(keys: Keys, some_titles: list[str], purchases: list[str]) -> list[bytes]:
    secret = [keys.store.reveal(), keys.journal.reveal()]
    return [
        *secret,
        *(key.hex().encode() for key in secret),
        *(key.hex().upper().encode() for key in secret),
        *(title.encode() for title in some_titles),
        *(purchase.encode() for purchase in purchases),
        b"PRIVATE KEY",
    ]


def found(haystack: bytes, wanted: list[bytes]) -> list[bytes]:
    return [needle for needle in wanted if needle in haystack]


async def test_nothing_is_in_clear_on_any_wire_or_disk(system, tmp_path):
    running = system(topology=ThroughRecorders, bookbuyer={"CBS_BUY_INTERVAL": "0.02"})
    network = running.topology.network
    async with contextlib.AsyncExitStack() as stack:
        recorders = {"PCCS": Recorder((f"{network}.210", PCCS_PORT), (running.topology.host("coordinator"), PCCS_PORT))}
        for variable, (number, port, target) in WIRES.items():
            recorders[variable] = Recorder((f"{network}.{number}", port), (running.topology.host(target), port))
        for recorder in recorders.values():
            await stack.enter_async_context(recorder)
        async with running:
            keys = await ask_for_keys(running, tmp_path)
            await bought(running, more_than=50)
            while_running = everything_below(running.topology.state)
    receipts, some_titles = journalled(running, keys).receipts, titles(running, keys)
    assert len(stored(running, keys)) > 50
    assert len(some_titles) > 300
    # Titles of a word or two could stand in a certificate by chance.
    wanted = needles(keys, [t for t in some_titles if len(t) > 8], [r.purchase_id for r in receipts])

    for wire, recorder in recorders.items():
        assert len(recorder.seen) > 1000, f"nothing was recorded on {wire}"
        assert found(bytes(recorder.seen), wanted) == [], wire
    assert found(while_running, wanted) == []
    assert found(everything_below(running.topology.state), wanted) == []
    assert found(everything_below(running.workspace.logs), needles(keys, [], [])) == []


def everything_below(folder: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


class PlainStore(bookstore_pb2_grpc.BookstoreServiceServicer):
    async def GetBook(self, request, context):
        book = books_pb2.Book(book_id=request.book_id, title="The Purloined Letter")
        return bookstore_pb2.GetBookResponse(book=books_pb2.StockedBook(book=book, stock=1))


async def test_the_same_search_finds_a_title_that_is_sent_in_clear():
    server = grpc.aio.server()
    bookstore_pb2_grpc.add_BookstoreServiceServicer_to_server(PlainStore(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with (
        Recorder(("127.0.0.1", 0), ("127.0.0.1", port)) as recorder,
        grpc.aio.insecure_channel(recorder.address) as channel,
    ):
        await bookstore_pb2_grpc.BookstoreServiceStub(channel).GetBook(bookstore_pb2.GetBookRequest(book_id="x"))
    await server.stop(0)
    assert found(bytes(recorder.seen), [b"The Purloined Letter", b"nowhere"]) == [b"The Purloined Letter"]
