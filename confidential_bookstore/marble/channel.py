"""A channel to another marble: verifies its chain and its marble type, and survives certificate renewal.

gRPC gives a channel its client certificate once, for good (grpc#15735). So after a renewal the next call opens a new
channel underneath; calls that are under way finish on the old one, which is then closed. Callers keep their stubs.

The name that is verified is `marble_dns_name(type, trust domain)`, which only the coordinator hands out, and only to
marbles of that type: never the name or address that was dialled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc
import structlog

from confidential_bookstore.errors import PeerRefused
from confidential_bookstore.marble.credentials import channel_credentials
from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.marble.preflight import diagnose
from confidential_bookstore.pki.names import marble_dns_name

DEFAULT_DEADLINE_SECONDS = 5.0
_LAST_CALLS_SECONDS = 60.0  # how long calls under way may go on with the previous certificate

_log = structlog.get_logger()


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
        identity, self._generation = live.state
        self._channel = _open(identity, marble_type, address)
        self._closing: dict[asyncio.Task[None], grpc.aio.Channel] = {}

    def newest(self) -> grpc.aio.Channel:
        """The channel that shows the present certificate."""
        if self._generation != self._live.generation:
            identity, self._generation = self._live.state
            old, self._channel = self._channel, _open(identity, self.marble_type, self.address)
            closing = asyncio.get_running_loop().create_task(old.close(_LAST_CALLS_SECONDS))
            self._closing[closing] = old
            closing.add_done_callback(self._closing.pop)
            _log.info("channel.renewed", marble_type=self.marble_type, address=self.address)
        return self._channel

    async def explain(self) -> PeerRefused | None:
        """Why calls fail with UNAVAILABLE, found by a plain handshake; None if the handshake succeeds now."""
        return await diagnose(self.address, self._live.current, self.marble_type)

    async def close(self, grace: float | None = None) -> None:
        """Ends the channel; calls under way get `grace` seconds."""
        await self._channel.close(grace)
        for closing, old in list(self._closing.items()):
            closing.cancel()
            await old.close(grace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # grpc's signature
        """Connectivity of the present channel."""
        return self.newest().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the present channel's state is another."""
        await self.newest().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the present channel is connected."""
        await self.newest().channel_ready()

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
    """One method of a stub; made anew on the newest channel when there is one."""

    __slots__ = ("_callable", "_channel", "_deadline", "_make", "_on")

    def __init__(self, channel: MarbleChannel, make: Callable[[grpc.aio.Channel], Any], deadline: float | None) -> None:
        self._channel = channel
        self._make = make
        self._deadline = deadline
        self._on = channel.newest()
        self._callable = make(self._on)

    def __call__(self, request: Any = None, *, timeout: float | None = None, **kwargs: Any) -> Any:
        newest = self._channel.newest()
        if newest is not self._on:
            self._on, self._callable = newest, self._make(newest)
        return self._callable(request, timeout=self._deadline if timeout is None else timeout, **kwargs)


def _open(identity: Identity, marble_type: str, address: str) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(
        address,
        channel_credentials(identity),
        options=[
            ("grpc.ssl_target_name_override", marble_dns_name(marble_type, identity.trust_domain)),
            # Certificates differ between generations: connections must not be shared with another channel.
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 5_000),
            ("grpc.enable_http_proxy", 0),
        ],
    )
