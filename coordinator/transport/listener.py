"""TCP listeners that a hostile network cannot exhaust: every connection is limited in time and in room.

    accept -> TLS handshake (limited time) -> GuardedConnection -> grpclib's or aiohttp's protocol

grpclib has no limit on the size of a message, aiohttp none on how long a request may take to arrive, asyncio none on
the number of connections. One rule for both stands here instead: a connection is dropped when it completes no request
for a while, or when it sends too much before the requests that are open on it have been answered.

Connections above the limit wait in the kernel's queue. One source never gets all of them: those above its share are
closed at once. This module never looks into a request.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import structlog
from grpclib.protocol import AbstractHandler, H2Protocol
from grpclib.server import Server as GrpcServer

from confidential_bookstore.errors import ConfigurationError
from coordinator.transport.paced_log import PacedLog
from coordinator.transport.tls import AnyClientCertContext, serve_tls

log = structlog.get_logger()

_ACCEPT_PAUSE = 0.5  # seconds, when the system cannot give out another socket
_TLS_CLOSE = 2.0  # seconds to wait for the peer's close_notify
_IPV6_NETWORK = 64  # bits; whoever has one address of it has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one listener grants.

    Attributes:
        connections: at a time.
        per_source: of them, from one IPv4 address or one IPv6 network of 64 bits; None is three quarters. All of this
            machine are one source, and so are all behind one proxy.
        handshake_seconds: from accept to the end of the TLS handshake.
        request_seconds: a connection that completes no request in this time is dropped.
        request_bytes: that may arrive before the open requests of a connection are answered.
    """

    connections: int = 512
    per_source: int | None = None
    handshake_seconds: float = 10.0
    request_seconds: float = 60.0
    request_bytes: int = 1 << 20

    @property
    def source_connections(self) -> int:
        """What `per_source` comes to; at least 1."""
        return max(1, self.connections * 3 // 4 if self.per_source is None else self.per_source)


class GuardedConnection(asyncio.Protocol):
    """One connection. Passes everything on to the protocol inside it and drops a peer that exceeds the limits.

    Args:
        inside: makes that protocol.
        limits: of the connection.
        dropped: where a line is written when it is dropped.
    """

    def __init__(
        self, inside: Callable[[GuardedConnection], asyncio.Protocol], limits: Limits, dropped: PacedLog
    ) -> None:
        self._limits = limits
        self._dropped = dropped
        self._loop = asyncio.get_running_loop()
        self._inside = inside(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        self._open_requests = 0
        self._closing = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def begin_request(self) -> None:
        """The head of a request has arrived."""
        self._open_requests += 1

    def end_request(self) -> None:
        """The last byte of its answer was handed to the transport."""
        self._open_requests -= 1
        if self._open_requests == 0:
            self._received = 0
            if self._closing and self._transport is not None:
                self._transport.close()
        self._restart_timer()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """`begin_request` and `end_request` around a block."""
        self.begin_request()
        try:
            yield
        finally:
            self.end_request()

    def close(self) -> None:
        """Closes when the open requests are answered, at once if there are none."""
        self._closing = True
        if self._open_requests == 0 and self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when the handshake is complete."""
        self._transport = cast(asyncio.Transport, transport)
        self._restart_timer()
        self._inside.connection_made(transport)
        if self._closing:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with decrypted bytes."""
        self._received += len(data)
        if self._received > self._limits.request_bytes:
            self._drop("too many bytes without an answered request")
        else:
            self._inside.data_received(data)

    def eof_received(self) -> bool | None:
        """Called by asyncio."""
        return self._inside.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio, once."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        self._inside.connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """Called by asyncio."""
        self._inside.pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._inside.resume_writing()

    def abort(self) -> None:
        """Drops the connection and what it still has to send."""
        if self._transport is not None:
            self._transport.abort()

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            reason = "no completed request in time"
            self._timer = self._loop.call_later(self._limits.request_seconds, self._drop, reason)

    def _drop(self, reason: str) -> None:
        if self._transport is not None:
            self._dropped("connection dropped", reason=reason, peer=self._transport.get_extra_info("peername"))
        self.abort()


class Listener:
    """An open port. Make one with `open_listener`."""

    def __init__(
        self,
        listening: socket.socket,
        context: AnyClientCertContext | None,
        inside: Callable[[GuardedConnection], asyncio.Protocol],
        limits: Limits,
        tls_error_level: str,
    ) -> None:
        self._listening = listening
        self._context = context
        self._inside = inside
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.connections)
        self._connections: dict[asyncio.Task[None], GuardedConnection] = {}
        self._sources: collections.Counter[str] = collections.Counter()
        self._refused, self._dropped = PacedLog("info"), PacedLog("info")
        self._handshake_failed = PacedLog(tls_error_level)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._listening.getsockname()[1]
        return port

    async def stop(self, grace: float) -> None:
        """Accepts nothing more, lets open requests finish for `grace` seconds, then drops what is left."""
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._listening.close()
        for connection in list(self._connections.values()):
            connection.close()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=grace)
        tasks = list(self._connections)
        for task, connection in list(self._connections.items()):
            connection.abort()
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            # Accepting may not wait at all. One connection in each pass of the loop leaves everybody else a turn.
            await asyncio.sleep(0)
            try:
                accepted, peer = await loop.sock_accept(self._listening)
            except OSError as error:  # no file descriptors left, or the peer is gone already
                self._slots.release()
                log.warning("cannot accept a connection", error=error.strerror)
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            source = source_of(peer[0])
            if self._sources[source] >= self._limits.source_connections:
                accepted.close()
                self._slots.release()
                self._refused("connection refused", reason="its source has too many", source=source)
                continue
            self._sources[source] += 1
            connection = GuardedConnection(self._inside, self._limits, self._dropped)
            task = loop.create_task(self._serve(accepted, connection))
            self._connections[task] = connection
            task.add_done_callback(functools.partial(self._forget, source))

    def _forget(self, source: str, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._sources[source] -= 1
        if not self._sources[source]:
            del self._sources[source]
        self._slots.release()

    async def _serve(self, accepted: socket.socket, connection: GuardedConnection) -> None:
        """One connection, from the handshake to its end."""
        try:
            if self._context is None:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, accepted)
            else:
                await serve_tls(
                    accepted,
                    connection,
                    self._context,
                    handshake_seconds=self._limits.handshake_seconds,
                    close_seconds=_TLS_CLOSE,
                )
        except OSError as error:  # also ssl.SSLError and the handshake's timeout
            self._handshake_failed("TLS handshake failed", error=str(error))
        else:
            await connection.closed


async def open_listener(
    address: tuple[str, int],
    inside: Callable[[GuardedConnection], asyncio.Protocol],
    *,
    context: AnyClientCertContext | None,
    limits: Limits,
    tls_error_level: str = "debug",
) -> Listener:
    """Listens on (host, port), with TLS if there is a context. An empty host means every interface, port 0 any port.

    Args:
        address: host and port.
        inside: makes the protocol of a connection.
        context: for TLS.
        limits: of all connections.
        tls_error_level: at which failed handshakes are logged.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    host, port = address
    everywhere = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET
    try:
        listening = socket.create_server(
            (host, port), family=family, dualstack_ipv6=everywhere, backlog=limits.connections
        )
    except OSError as error:
        raise ConfigurationError(
            "cannot listen", got=f"{host}:{port}", hint=f"{error.strerror}: choose an address that is free"
        ) from error
    # Accepted sockets inherit it. asyncio sets it only where the protocol is named, which `create_server` does not do;
    # without it, an answer that is written in several pieces waits 40 ms for the peer's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setblocking(False)
    return Listener(listening, context, inside, limits, tls_error_level)


def source_of(host: str) -> str:
    """Whom a connection counts for: the IPv4 address, or the IPv6 network of the peer."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(address), _IPV6_NETWORK), strict=False))
        address = address.ipv4_mapped
    return str(address)


def grpc_inside(server: GrpcServer) -> Callable[[GuardedConnection], asyncio.Protocol]:
    """The protocol of grpclib for a connection, telling the guard when a request begins and ends."""

    def inside(connection: GuardedConnection) -> asyncio.Protocol:
        protocol = _grpc_protocol(server)
        protocol.handler = _CountedRequests(protocol.handler, connection)
        return protocol

    return inside


def _grpc_protocol(server: GrpcServer) -> H2Protocol:
    """A connection's protocol. grpclib makes it where `Server.start` needs it, and has no public name for it."""
    return server._protocol_factory()  # noqa: SLF001


class _CountedRequests(AbstractHandler):
    """grpclib's handler of one connection, watched."""

    def __init__(self, handler: AbstractHandler, connection: GuardedConnection) -> None:
        self._handler = handler
        self._connection = connection

    def accept(self, stream: Any, headers: Any, release_stream: Callable[[], None]) -> None:
        self._connection.begin_request()

        def release() -> None:
            release_stream()
            self._connection.end_request()

        self._handler.accept(stream, headers, release)

    def cancel(self, stream: Any) -> None:
        self._handler.cancel(stream)

    def close(self) -> None:
        self._handler.close()
