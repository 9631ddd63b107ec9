"""A call on a channel that may be closed underneath it.

When gRPC closes a channel, it cancels the calls on it, and whoever waits for one is told that he was cancelled himself:
an `asyncio.CancelledError` that nobody has asked for, and that ends whole tasks. Here, such a call fails like any other
whose connection is gone: with UNAVAILABLE, and with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from typing import Any

import grpc


@dataclass(slots=True, eq=False)
class Line:
    """What calls are made on. `ended` says why it was closed while there may be calls on it; None if it was not."""

    ended: str | None = field(default=None, kw_only=True)


class LineCall:
    """A call of grpc.aio, of any kind, with the same methods."""

    __slots__ = ("_call", "_cancelled", "_line")

    def __init__(self, call: Any, line: Line) -> None:
        self._call = call
        self._line = line
        self._cancelled = False

    def cancel(self) -> bool:
        """As in grpc.aio: whoever waits gets `asyncio.CancelledError`."""
        self._cancelled = True
        return bool(self._call.cancel())

    async def read(self) -> Any:
        """As in grpc.aio."""
        try:
            return await self._call.read()
        except asyncio.CancelledError:
            self._raise_if_line_ended()
            raise

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self._call.__await__())
        except asyncio.CancelledError:
            self._raise_if_line_ended()
            raise

    async def __aiter__(self) -> AsyncGenerator[Any, None]:
        try:
            async for message in self._call:
                yield message
        except asyncio.CancelledError:
            self._raise_if_line_ended()
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def _raise_if_line_ended(self) -> None:
        """Unless the caller has cancelled the call, or somebody the caller."""
        task = asyncio.current_task()
        if self._line.ended is None or self._cancelled or (task is not None and task.cancelling()):
            return
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, self._line.ended) from None
