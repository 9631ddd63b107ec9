from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from grpclib.client import UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from grpclib.server import Server
from independent_marble import ActivationReq, ActivationResp, IndependentMarble
from raw_connection import closed_by_peer, connected
from structlog.testing import capture_logs

from confidential_bookstore.errors import ConfigurationError
from coordinator.transport.listener import (
    GuardedConnection,
    Limits,
    Listener,
    _grpc_protocol,
    grpc_inside,
    open_listener,
    source_of,
)
from coordinator.transport.tls import AnyClientCertContext, ClientCertificate

PATIENT = Limits(connections=4, handshake_seconds=5, request_seconds=20, request_bytes=64 * 1024)


class Echo:
    """Answers with the quote as the only file; waits for `gate` first."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()

    async def activate(self, stream):
        request = await stream.recv_message()
        self.started.set()
        await self.gate.wait()
        response = ActivationResp()
        response.Parameters.Files["quote"] = request.Quote
        await stream.send_message(response)

    def __mapping__(self):
        return {"/rpc.Marble/Activate": Handler(self.activate, Cardinality.UNARY_UNARY, ActivationReq, ActivationResp)}


def marble() -> IndependentMarble:
    return IndependentMarble("any", lambda _: b"quote")


@contextlib.asynccontextmanager
async def serving(limits: Limits, echo: Echo | None = None, **rest):
    server = marble()
    context = AnyClientCertContext(
        server.certificate, server.key, client_certificate=ClientCertificate.REQUIRED, alpn=(b"h2",)
    )
    service = grpc_inside(Server([echo or Echo()]))
    listener = await open_listener(("127.0.0.1", 0), service, context=context, limits=limits, **rest)
    try:
        yield listener
    finally:
        await listener.stop(0)


def limits(**changes) -> Limits:
    return Limits(**({name: getattr(PATIENT, name) for name in Limits.__slots__} | changes))


async def call(port: int, quote: bytes = b"quote") -> bytes:
    return (await marble().activate(port, Quote=quote, timeout=10)).Files["quote"]


async def test_a_call_is_served():
    async with serving(PATIENT) as listener:
        assert await call(listener.port) == b"quote"


async def test_what_it_needs_of_grpclib_is_there():
    protocol = _grpc_protocol(Server([Echo()]))
    assert isinstance(protocol, H2Protocol)
    assert callable(protocol.handler.accept)


async def test_who_never_shakes_hands_is_dropped_and_holds_nobody_up():
    async with serving(limits(handshake_seconds=0.5)) as listener, connected(listener.port) as (reader, writer):
        writer.write(b"\x16\x03\x01")  # the beginning of a TLS record
        assert await call(listener.port) == b"quote"
        await closed_by_peer(reader, 5)


async def test_who_never_asks_is_dropped():
    async with serving(limits(request_seconds=0.5)) as listener:
        async with connected(listener.port, marble().tls()) as (reader, _):
            began = time.monotonic()
            await closed_by_peer(reader, 5)
        assert 0.3 < time.monotonic() - began < 4


async def test_who_never_finishes_asking_is_dropped_however_busy():
    """One byte at a time keeps a connection alive elsewhere."""
    async with serving(limits(request_seconds=1)) as listener:
        async with connected(listener.port, marble().tls()) as (reader, writer):

            async def dribble():
                writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
                while True:
                    writer.write(bytes(3) + b"\x04\x01" + bytes(4))  # SETTINGS acknowledged, again and again
                    await asyncio.sleep(0.1)

            dribbling = asyncio.create_task(dribble())
            await closed_by_peer(reader, 5)
            dribbling.cancel()
        assert await call(listener.port) == b"quote"


async def test_a_message_that_is_too_long_ends_the_connection_and_nothing_else():
    async with serving(limits(request_bytes=32 * 1024)) as listener:
        with pytest.raises((GRPCError, StreamTerminatedError, ConnectionError)):
            await call(listener.port, bytes(2_000_000))
        assert await call(listener.port, bytes(30_000)) == bytes(30_000)


async def test_the_count_starts_again_with_every_answered_request():
    async with serving(limits(request_bytes=32 * 1024)) as listener:
        client = marble()
        async with client.channel(listener.port) as channel:
            method = UnaryUnaryMethod(channel, "/rpc.Marble/Activate", ActivationReq, ActivationResp)
            for _ in range(5):
                answer = await method(client.request(Quote=bytes(20_000)), timeout=10)
                assert len(answer.Parameters.Files["quote"]) == 20_000


async def test_open_requests_share_what_a_connection_may_send():
    """Else one could keep many half-sent requests and start the count again with a short one."""
    echo = Echo()
    echo.gate.clear()
    async with serving(limits(request_bytes=32 * 1024), echo) as listener:
        client = marble()
        async with client.channel(listener.port) as channel:
            method = UnaryUnaryMethod(channel, "/rpc.Marble/Activate", ActivationReq, ActivationResp)
            calls = [method(client.request(Quote=bytes(12_000)), timeout=10) for _ in range(4)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Exception) for answer in answers)


async def test_connections_above_the_limit_wait_for_a_place():
    async with (
        serving(limits(connections=2, per_source=2, request_seconds=0.7)) as listener,
        connected(listener.port, marble().tls()),
        connected(listener.port, marble().tls()),
    ):
        began = time.monotonic()
        assert await call(listener.port) == b"quote"
        assert time.monotonic() - began > 0.3


async def test_one_source_never_gets_all_connections():
    """A quarter stays for others: here a neighbour with another loopback address."""
    async with serving(limits(connections=4)) as listener, contextlib.AsyncExitStack() as stack:
        with capture_logs() as lines:
            for _ in range(3):
                await stack.enter_async_context(connected(listener.port, marble().tls()))
            for _ in range(20):
                async with connected(listener.port) as (reader, _):
                    assert await closed_by_peer(reader, 5) == b""
        refusals = [line for line in lines if line["event"] == "connection refused"]
        assert [line["source"] for line in refusals] == ["127.0.0.1"] * len(refusals)
        assert 1 <= len(refusals) < 10
        assert await asyncio.to_thread(handshake, listener.port, "127.0.0.2") == "h2"


def handshake(port: int, own_address: str) -> str | None:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(own_address, 0)) as plain,
        marble().tls().wrap_socket(plain) as connection,
    ):
        return connection.selected_alpn_protocol()


async def test_a_closed_connection_leaves_its_place():
    async with serving(limits(connections=2, per_source=1)) as listener:
        for _ in range(5):
            async with connected(listener.port, marble().tls()):
                pass
            await all_closed(listener)
            assert not listener._sources
        assert await call(listener.port) == b"quote"


async def all_closed(listener: Listener) -> None:
    await asyncio.wait_for(asyncio.gather(*listener._connections), 5)


@pytest.mark.parametrize(
    ("limit", "share"), [({}, 384), ({"connections": 4}, 3), ({"connections": 1}, 1), ({"per_source": 7}, 7)]
)
def test_the_share_of_a_source(limit, share):
    assert Limits(**limit).source_connections == share


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_what_counts_as_one_source(host, source):
    assert source_of(host) == source


@pytest.mark.parametrize("level", ["info", "error"])
async def test_failed_handshakes_are_logged_as_told_and_not_all_of_them(level):
    async with serving(PATIENT, tls_error_level=level) as listener:
        with capture_logs() as lines:
            for _ in range(10):
                async with connected(listener.port) as (reader, writer):
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                    await closed_by_peer(reader, 5)
            await all_closed(listener)
    failures = [line for line in lines if line["event"] == "TLS handshake failed"]
    assert {line["log_level"] for line in failures} == {level}
    assert len(failures) < 10


async def test_stopping_lets_open_requests_finish_and_takes_no_new_ones():
    echo = Echo()
    echo.gate.clear()
    async with serving(PATIENT, echo) as listener, connected(listener.port, marble().tls()) as (idle, _):
        port = listener.port
        open_call = asyncio.create_task(call(port))
        await echo.started.wait()
        stopping = asyncio.create_task(listener.stop(10))
        await closed_by_peer(idle, 5)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        assert not stopping.done()
        echo.gate.set()
        assert await open_call == b"quote"
        await asyncio.wait_for(stopping, 5)


async def test_stopping_does_not_wait_for_ever():
    echo = Echo()
    echo.gate.clear()
    async with serving(PATIENT, echo) as listener:
        open_call = asyncio.create_task(call(listener.port))
        await echo.started.wait()
        await asyncio.wait_for(listener.stop(0.2), 5)
        with pytest.raises((GRPCError, StreamTerminatedError)):
            await open_call


async def test_an_address_in_use_is_named():
    async with serving(PATIENT) as listener:
        with pytest.raises(ConfigurationError, match=f"cannot listen: got 127.0.0.1:{listener.port}"):
            await open_listener(("127.0.0.1", listener.port), never, context=None, limits=PATIENT)


def never(_connection: GuardedConnection) -> asyncio.Protocol:
    raise AssertionError


async def test_an_empty_host_is_every_interface():
    listener = await open_listener(("", 0), never, context=None, limits=PATIENT)
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    assert listener._listening.family is family
    await listener.stop(0)
