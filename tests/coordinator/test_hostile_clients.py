"""A coordinator under attack on all of its ports at once, as the process it really is, while honest clients use it.

What each limit does alone is in test_listener_limits and test_http_limits. Every kind of attack comes from an address
of its own, since one source never gets all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import psutil
import pytest
from coordinators import client_at, manifest, page
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, StreamTerminatedError
from hpack import Encoder
from independent_marble import IndependentMarble
from test_launched_coordinator import launched, signed

__all__ = ["signed"]

SOURCE = contextvars.ContextVar("source of an attack", default="127.0.0.9")
SECONDS = 5
SLOWEST = 10  # seconds that an honest client waits for any answer
MOST_GROWTH = 64 << 20
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)


@dataclass(frozen=True)
class Ports:
    """Where it listens; `tls` is how an attacker talks to those that speak TLS."""

    mesh: int
    keys: int
    client: int
    monitoring: int
    tls: dict[int, ssl.SSLContext]

    @property
    def all(self) -> tuple[int, ...]:
        return self.mesh, self.keys, self.client, self.monitoring

    def beginning(self, port: int) -> bytes:
        """Of what its protocol expects."""
        return H2_PREFACE if port in (self.mesh, self.keys) else b"POST /api/v2/manifest HTTP/1.1\r\nHost: x\r\n"


@dataclass
class Honest:
    """What honest clients saw."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    async def use(self, what: str, call: Callable[[], Awaitable[object]]) -> None:
        began = time.monotonic()
        try:
            await asyncio.wait_for(call(), SLOWEST)
        except Exception as error:  # noqa: BLE001
            self.failures.append(f"{what}: {error!r}")
        self.seconds.setdefault(what, []).append(time.monotonic() - began)


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return chosen.getsockname()[1]


@contextlib.asynccontextmanager
async def attacking(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[asyncio.StreamWriter]:
    """A connection from the address of this attack, that ends with an RST, whatever is under way on it."""
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=(SOURCE.get(), 0)), 5
    )
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    draining = asyncio.create_task(drain(reader))
    try:
        yield writer
    finally:
        writer.transport.abort()
        draining.cancel()


async def drain(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.transport.is_closing():
        raise ConnectionResetError
    writer.write(data)
    await writer.drain()


async def garbage_for_tls(ports: Ports, port: int) -> None:
    async with attacking(port) as writer:
        writer.write(os.urandom(2000))
        await asyncio.sleep(0.05)


async def reset_in_the_handshake(ports: Ports, port: int) -> None:
    async with attacking(port) as writer:
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(100))


async def reset_in_a_request(ports: Ports, port: int) -> None:
    async with attacking(port, ports.tls.get(port)) as writer:
        writer.write(ports.beginning(port))
        await asyncio.sleep(0.02)


async def stalled(ports: Ports, port: int) -> None:
    """A few bytes, and then nothing more."""
    async with attacking(port, ports.tls.get(port)) as writer:
        writer.write(ports.beginning(port))
        await asyncio.sleep(SECONDS)


async def silent(ports: Ports, port: int) -> None:
    """Of many connections more than one source may have; those above that are closed at once."""
    async with attacking(port):
        await asyncio.sleep(SECONDS)


async def slow(ports: Ports, port: int) -> None:
    """A byte at a time."""
    async with attacking(port, ports.tls.get(port)) as writer:
        for byte in ports.beginning(port)[:40]:
            await send(writer, bytes([byte]))
            await asyncio.sleep(0.01)


async def huge(ports: Ports, port: int) -> None:
    """Megabytes of body, or of frames, or of head."""
    heads = {
        ports.client: b"POST /api/v2/manifest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ports.monitoring: b"GET /metrics HTTP/1.1\r\n",
    }
    pieces = {ports.client: b"10000\r\n" + bytes(0x10000) + b"\r\n", ports.monitoring: b"a: " + b"b" * 8000 + b"\r\n"}
    async with attacking(port, ports.tls.get(port)) as writer:
        writer.write(heads.get(port, H2_PREFACE))
        for _ in range(100):
            # For HTTP/2: DATA frames of a stream that was never opened.
            await send(writer, pieces.get(port, b"\x00\x40\x00\x00\x00\x00\x00\x00\x01" + bytes(0x4000)))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Of HTTP/2."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


async def rapid_reset(ports: Ports, port: int) -> None:
    """Streams that are opened and taken back at once, each of them a request."""
    headers = Encoder().encode(
        {
            ":method": "POST",
            ":scheme": "https",
            ":path": "/rpc.Marble/Activate",
            ":authority": "x",
            "te": "trailers",
            "content-type": "application/grpc",
        }
    )
    async with attacking(port, ports.tls[port]) as writer:
        await send(writer, H2_PREFACE)
        for stream in range(1, 2000, 2):
            await send(writer, frame(1, 4, stream, headers) + frame(3, 0, stream, bytes(4)))


async def header_bomb(ports: Ports, port: int) -> None:
    """A header of 4,000 bytes once, and 12,000 references of one byte to it."""
    bomb = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 12_000
    async with attacking(port, ports.tls[port]) as writer:
        await send(writer, H2_PREFACE)
        await send(writer, frame(1, 4, 1, bomb))


class Raw(CodecBase):
    """Bytes as they are, in place of protobuf."""

    __content_subtype__ = "proto"

    def encode(self, message, message_type):
        return message

    def decode(self, data, message_type):
        return data


async def garbage_protobuf(ports: Ports, port: int) -> None:
    path = "/rpc.Marble/Activate" if port == ports.mesh else "/keypb.API/GetKeyEncryptionKey"
    channel = Channel("127.0.0.1", port, ssl=ports.tls[port], codec=Raw())
    try:
        for size in (1, 300, 60_000, 200_000):
            with contextlib.suppress(GRPCError):
                await UnaryUnaryMethod(channel, path, bytes, bytes)(os.urandom(size), timeout=5)
    finally:
        channel.close()


ATTACKS: list[tuple[Callable[[Ports, int], Awaitable[None]], str, int]] = [
    # what, on which ports, how many at a time on each
    (garbage_for_tls, "mesh keys client monitoring", 2),
    (reset_in_the_handshake, "mesh keys client", 2),
    (reset_in_a_request, "mesh keys client monitoring", 2),
    (stalled, "mesh keys client", 20),
    (silent, "mesh", 400),
    (silent, "monitoring", 40),
    (slow, "mesh keys client", 5),
    (huge, "mesh keys client monitoring", 1),
    (garbage_protobuf, "mesh keys", 1),
    (rapid_reset, "mesh", 1),
    (header_bomb, "mesh", 1),
]


async def attack(
    what: Callable[[Ports, int], Awaitable[None]], ports: Ports, port: int, source: int, until: float
) -> int:
    """Again and again. How often it got through with it."""
    SOURCE.set(f"127.0.1.{source}")
    done = 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError, StreamTerminatedError, asyncio.IncompleteReadError):
            await what(ports, port)
            done += 1
        await asyncio.sleep(0.1)
    return done


@pytest.mark.slow
async def test_honest_clients_are_served_while_all_ports_are_attacked(signed, machine, tmp_path, bookstore):
    monitoring, keys = free_port(), free_port()
    addresses = {
        "EDG_COORDINATOR_PROMETHEUS_ADDR": f"127.0.0.1:{monitoring}",
        "EDG_DISTRIBUTED_COORDINATOR": "1",
        "CBS_COORDINATOR_KEY_ADDR": f"127.0.0.1:{keys}",
    }
    async with launched(signed, machine, tmp_path, **addresses) as (enclave, event):
        stranger = IndependentMarble("bookstore", bytes)
        anonymous = stranger.tls(show_certificate=False)
        anonymous.set_alpn_protocols(["http/1.1"])
        tls = {event["mesh_port"]: stranger.tls(), keys: stranger.tls(), event["client_port"]: anonymous}
        ports = Ports(event["mesh_port"], keys, event["client_port"], monitoring, tls)
        process = psutil.Process(enclave.process.pid)
        honest = Honest()

        async def new_status() -> None:
            async with client_at(ports.client) as client:
                assert (await client.data("/api/v2/status"))["code"] == 3

        async with client_at(ports.client) as client:
            assert (await client.set_manifest(manifest()))[0] == 200
            marbles = [bookstore() for _ in range(4)]
            for marble in marbles:
                await marble.activate(ports.mesh)
            assert (await page(monitoring, "/metrics"))[0] == 200
            before = process.memory_info().rss
            until = time.monotonic() + SECONDS
            attacks = {
                (what.__name__, name): [
                    asyncio.create_task(attack(what, ports, getattr(ports, name), source, until)) for _ in range(count)
                ]
                for source, (what, names, count) in enumerate(ATTACKS, 1)
                for name in names.split()
            }
            highest = before
            while time.monotonic() < until:
                await asyncio.gather(
                    honest.use("activate", lambda: bookstore().activate(ports.mesh)),
                    honest.use("status", lambda: client.data("/api/v2/status")),
                    honest.use("status, anew", new_status),
                    honest.use("metrics", lambda: page(monitoring, "/metrics")),
                )
                highest = max(highest, process.memory_info().rss)
                await asyncio.sleep(0.05)
            done = {what: sum(await asyncio.gather(*tasks)) for what, tasks in attacks.items()}
        assert enclave.process.poll() is None
        async with client_at(ports.client) as client:
            assert (await client.data("/api/v2/status"))["code"] == 3
        await bookstore().activate(ports.mesh)
    assert honest.failures == []
    assert min(len(times) for times in honest.seconds.values()) >= 3
    assert highest - before <= MOST_GROWTH, f"{highest - before >> 20} MiB"
    assert not [what for what, count in done.items() if count == 0], done
