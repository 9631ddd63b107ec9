"""A channel that shares its calls among several marble types, by weights that come with the manifest.

The caller shares, and not a proxy: whom a connection is for has to be known before its handshake, because TLS verifies
exactly one marble type; and how calls are shared is the data owner's decision, so a host must not make it.

Every method of a stub has shares of its own, and they are exact: with weights 3 and 1, of any four calls in a row that
begin with a whole round three go to the first and one to the second. A type that refuses or does not answer is not
replaced by another: its share of the calls fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Self

import grpc


class Shares:
    """Smooth weighted round robin. Weights are whole numbers, at least one of them above 0."""

    __slots__ = ("_credit", "_total", "weights")

    def __init__(self, weights: Mapping[str, int]) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self._total = sum(self.weights.values())
        self._credit = dict.fromkeys(self.weights, 0)

    def next(self) -> str:
        """Whose turn it is. In `sum(weights)` turns each has as many as its weight, spread over them."""
        credit = self._credit
        for name, weight in self.weights.items():
            credit[name] += weight
        chosen = max(credit, key=credit.__getitem__)
        credit[chosen] -= self._total
        return chosen


class SplitChannel(grpc.aio.Channel):
    """Give it to a generated stub like any other `grpc.aio.Channel`.

    Args:
        channels: by marble type; more than are needed now may be there. They are closed with this one.
        weights: of the types that calls go to.
    """

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], weights: Mapping[str, int]) -> None:
        self.channels = dict(channels)
        self._weights = dict(weights)

    @property
    def weights(self) -> Mapping[str, int]:
        """What is in force now."""
        return self._weights

    @property
    def unreachable(self) -> tuple[str, ...]:
        """Types that have a share of the calls, and no channel. Their calls fail with UNAVAILABLE."""
        return tuple(name for name, weight in self._weights.items() if weight and name not in self.channels)

    def set_weights(self, weights: Mapping[str, int]) -> None:
        """Shares new calls anew; calls under way finish where they are."""
        if dict(weights) != self._weights:
            self._weights = dict(weights)

    async def close(self, grace: float | None = None) -> None:
        """Closes the channels; calls under way get `grace` seconds."""
        await asyncio.gather(*(channel.close(grace) for channel in self.channels.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # grpc's signature
        """READY if all channels with a share are; else the state of the first that is not."""
        states = [channel.get_state(try_to_connect) for channel in self._used()]
        ready = grpc.ChannelConnectivity.READY
        return next((state for state in states if state is not ready), ready)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when `get_state` says something else."""
        while self.get_state() is last_observed_state:
            waiting = [
                asyncio.ensure_future(channel.wait_for_state_change(channel.get_state())) for channel in self._used()
            ]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waiting:
                    each.cancel()

    async def channel_ready(self) -> None:
        """Returns when all channels with a share are connected."""
        await asyncio.gather(*(channel.channel_ready() for channel in self._used()))

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A callable for one method, as the generated stubs ask for it."""
        return _Method(self, "unary_unary", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`."""
        return _Method(self, "stream_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`."""
        return _Method(self, "unary_stream", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `unary_unary`."""
        return _Method(self, "stream_stream", args, kwargs)

    def _used(self) -> list[grpc.aio.Channel]:
        return [self.channels[name] for name, weight in self._weights.items() if weight and name in self.channels]


class _Method:
    """One method of a stub, with its shares."""

    __slots__ = ("_callables", "_channel", "_shares", "_weights")

    def __init__(self, channel: SplitChannel, kind: str, args: Any, kwargs: Any) -> None:
        self._channel = channel
        self._callables = {name: getattr(each, kind)(*args, **kwargs) for name, each in channel.channels.items()}
        self._weights = channel.weights
        self._shares = Shares(self._weights)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._channel.weights is not self._weights:  # replaced when they change
            self._weights = self._channel.weights
            self._shares = Shares(self._weights)
        chosen = self._shares.next()
        if chosen not in self._callables:
            nothing = grpc.aio.Metadata()
            words = f"this marble knows no address of {chosen}, which has a share of the calls"
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, words)
        return self._callables[chosen](*args, **kwargs)
