"""A small world for the services' tests: real grpc.aio servers on loopback, and faults to put between them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.marble.interceptors import status_of
from confidential_bookstore.marble.peer import Peer, set_current_peer
from services.bookwarehouse.store import Book

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))

BOOKS = [
    Book(book_id="emma", title="Emma", author="Jane Austen", year=1815, isbn="9780141439587"),
    Book(book_id="iliad", title="The Iliad", author="Homer", year=-750),
    Book(book_id="les-miserables", title="Les Misérables", author="Victor Hugo", year=1862),
]


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Faults:
    """What goes wrong with the next calls of a method: "before" (never reached) or "after" (reply lost)."""

    script: dict[str, list[tuple[str, grpc.StatusCode]]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def add(self, method: str, when: str, code: grpc.StatusCode, times: int = 1) -> None:
        self.script.setdefault(method, []).extend([(when, code)] * times)

    def next(self, method: str) -> tuple[str, grpc.StatusCode] | None:
        self.calls.append(method)
        faults = self.script.get(method)
        return faults.pop(0) if faults else None


class StandIn(grpc.aio.ServerInterceptor):
    """Stands in for the attested server's interceptor: sets the peer, maps errors, injects faults."""

    def __init__(self, peer: str, faults: Faults) -> None:
        self.peer = peer
        self.faults = faults

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        name = details.method.rpartition("/")[2]
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(name, handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )

    def _unary(self, name: str, behavior: Any) -> Any:
        async def guarded(request: Any, context: Any) -> Any:
            set_current_peer(Peer(self.peer, "uuid"))
            fault = self.faults.next(name)
            if fault and fault[0] == "before":
                await context.abort(fault[1], "injected before")
            try:
                response = await behavior(request, context)
            except BookstoreError as error:
                await context.abort(*status_of(error))
            if fault:
                await context.abort(fault[1], "injected after")
            return response

        return guarded

    def _streaming(self, behavior: Any) -> Any:
        async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
            set_current_peer(Peer(self.peer, "uuid"))
            try:
                async for response in behavior(request, context):
                    yield response
            except BookstoreError as error:
                await context.abort(*status_of(error))

        return guarded


@asynccontextmanager
async def serving(add: Any, servicer: Any, *, peer: str = "bookstore", faults: Faults | None = None):
    """A server for one servicer; gives its address."""
    server = grpc.aio.server(interceptors=[StandIn(peer, faults or Faults())], options=[("grpc.so_reuseport", 0)])
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
        await asyncio.sleep(0)


@asynccontextmanager
async def stub_for(stub_type: Any, address: str):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 50)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield stub_type(channel)


async def code_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call fails; an assertion error if it does not."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"the call was answered: {answer}")


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Waits for something that has no event of its own."""
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")
