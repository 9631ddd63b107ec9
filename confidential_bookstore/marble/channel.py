"""A channel to another marble: verifies its chain and its marble type, and survives renewals and updates.

gRPC gives a channel its certificate and its roots once, for good (grpc#15735). So when this marble's certificate or its
trust in the other type has changed, a new channel is connected underneath, and calls move to it when it is ready: peers
learn of an update at slightly different times, and until then the old channel does. Calls under way finish on the old
one, unless the other type has been revoked: then it is closed at once. Callers keep their stubs.

The name that is verified is `marble_dns_name(type, trust domain)`, which only the coordinator hands out, and only to
marbles of that type: never the name or address that was dialled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc
import structlog

from confidential_bookstore.errors import ConfigurationError, PeerRefused
from confidential_bookstore.marble.credentials import channel_credentials
from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.marble.line_call import Line, LineCall
from confidential_bookstore.marble.preflight import diagnose
from confidential_bookstore.pki.names import marble_dns_name

DEFAULT_DEADLINE_SECONDS = 5.0
_LAST_CALLS_SECONDS = 60.0  # how long calls under way may go on with the previous certificate
_PREVIOUS = "the call was made with a certificate that has been renewed since, and takes too long; call again"
_EXPLAIN_SECONDS = 30.0  # at most one explanation in so long

_log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Line(Line):
    """One channel of gRPC's, what it shows, and whom it trusts."""

    channel: grpc.aio.Channel
    identity: Identity
    roots_pem: bytes
    attending: asyncio.Task[None] | None = None

    async def close(self, grace: float | None) -> None:
        if self.attending is not None:
            self.attending.cancel()
        await self.channel.close(grace)


class MarbleChannel(grpc.aio.Channel):
    """Give it to a generated stub like any other `grpc.aio.Channel`.

    Args:
        live: this marble's identity.
        marble_type: what the other side must be attested as.
        address: `host:port` to dial.
        default_deadline: seconds, for unary calls that bring no timeout of their own.
    """

    def __init__(
        self,
        live: LiveIdentity,
        marble_type: str,
        address: str,
        *,
        default_deadline: float = DEFAULT_DEADLINE_SECONDS,
    ) -> None:
        self.marble_type = marble_type
        self.address = address
        self.default_deadline = default_deadline
        self._live = live
        self._version = live.version
        self._line = self._open(live.current, live.roots(marble_type))
        self._next: _Line | None = None
        self._closing: dict[asyncio.Task[None], _Line] = {}
        self._explaining: asyncio.Task[None] | None = None
        self.follow()

    def newest(self) -> _Line:
        """The line for new calls."""
        if self._version != self._live.version:
            self.follow()
        return self._line

    def follow(self) -> None:
        """Takes note that the identity or its trust may have changed."""
        self._version = self._live.version
        wanted = (self._live.current, self._live.lasting_roots(self.marble_type))
        if self._next is not None and (self._next.identity, self._next.roots_pem) != wanted:
            self._retire(self._next, 0, "")
            self._next = None
        if (self._line.identity, self._line.roots_pem) != wanted and self._next is None:
            self._next = self._open(*wanted)
        if any(pem in self._line.roots_pem for pem in self._live.revoked_roots(self.marble_type)):
            _log.warning("channel.revoked", marble_type=self.marble_type, address=self.address)
            self._switch(0, f"an update of the manifest has revoked {self.marble_type}")
        elif self._live.refused(self._line.identity):
            self._switch(_LAST_CALLS_SECONDS, _PREVIOUS)

    async def explain(self) -> PeerRefused | None:
        """Why calls fail with UNAVAILABLE, found by a plain handshake; None if the handshake succeeds now."""
        return await diagnose(self.address, self._live.current, self.marble_type, trust=self._live)

    async def close(self, grace: float | None = None) -> None:
        """Ends the channel; calls under way get `grace` seconds."""
        if self._explaining is not None:
            self._explaining.cancel()
        for line in (self._line, self._next):
            if line is not None:
                await line.close(grace)
        for closing, old in list(self._closing.items()):
            closing.cancel()
            await old.close(grace)

    def _open(self, identity: Identity, roots_pem: bytes) -> _Line:
        line = _Line(_connect(identity, roots_pem, self.marble_type, self.address), identity, roots_pem)
        line.attending = asyncio.get_running_loop().create_task(self._attend(line), name="channel")
        return line

    async def _attend(self, line: _Line) -> None:
        """Follows one line's connection: moves calls to it when it is ready, and says why it fails."""
        while True:
            state = line.channel.get_state(try_to_connect=line is self._next)
            if state is grpc.ChannelConnectivity.READY and line is self._next:
                self._switch(_LAST_CALLS_SECONDS, _PREVIOUS)
                _log.info("channel.renewed", marble_type=self.marble_type, address=self.address)
            elif state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and self._explaining is None:
                self._explaining = asyncio.get_running_loop().create_task(self._log_cause(), name="explain")
            elif state is grpc.ChannelConnectivity.SHUTDOWN:
                return
            await line.channel.wait_for_state_change(state)

    def _switch(self, grace: float, reason: str) -> None:
        """Moves new calls to the next line, if there is one."""
        if self._next is not None:
            old, self._line, self._next = self._line, self._next, None
            self._retire(old, grace, reason)

    def _retire(self, line: _Line, grace: float, reason: str) -> None:
        line.ended = reason
        closing = asyncio.get_running_loop().create_task(line.close(grace), name="retire")
        self._closing[closing] = line
        closing.add_done_callback(self._closing.pop)

    async def _log_cause(self) -> None:
        """All that gRPC says is UNAVAILABLE; the log says why, once in a while."""
        refused = None
        with contextlib.suppress(ConfigurationError):  # an address in one of gRPC's own forms is not dialled here
            refused = await self.explain()
        if refused is not None:
            _log.warning(
                "channel.unavailable",
                marble_type=self.marble_type,
                address=self.address,
                cause=refused.cause,
                reason=str(refused),
                hint=refused.hint,
            )
        await asyncio.sleep(_EXPLAIN_SECONDS)
        self._explaining = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # grpc's signature
        """Connectivity of the present channel."""
        return self.newest().channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the present channel's state is another."""
        await self.newest().channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the present channel is connected."""
        await self.newest().channel.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for one method, as the generated stubs ask for it."""
        return _Method(self, lambda channel: channel.unary_unary(*args, **kwargs), self.default_deadline)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`."""
        return _Method(self, lambda channel: channel.stream_unary(*args, **kwargs), self.default_deadline)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`; a stream has no deadline unless its caller gives one."""
        return _Method(self, lambda channel: channel.unary_stream(*args, **kwargs), None)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_stream`."""
        return _Method(self, lambda channel: channel.stream_stream(*args, **kwargs), None)


class _Method:
    """One method of a stub; made anew on the newest line when there is one."""

    __slots__ = ("_callable", "_channel", "_deadline", "_make", "_on")

    def __init__(self, channel: MarbleChannel, make: Callable[[grpc.aio.Channel], Any], deadline: float | None) -> None:
        self._channel = channel
        self._make = make
        self._deadline = deadline
        self._on = channel.newest()
        self._callable = make(self._on.channel)

    def __call__(self, request: Any = None, *, timeout: float | None = None, **kwargs: Any) -> Any:
        newest = self._channel.newest()
        if newest is not self._on:
            self._on, self._callable = newest, self._make(newest.channel)
        timeout = self._deadline if timeout is None else timeout
        return LineCall(self._callable(request, timeout=timeout, **kwargs), newest)


def _connect(identity: Identity, roots_pem: bytes, marble_type: str, address: str) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(
        address,
        channel_credentials(identity, roots_pem),
        options=[
            ("grpc.ssl_target_name_override", marble_dns_name(marble_type, identity.trust_domain)),
            # Certificates and roots differ between lines: connections must not be shared with another channel.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.enable_http_proxy", 0),
        ],
    )
