"""Turns on the event loop, for work that takes a millisecond of it.

When many requests arrive together, each of them would go on in the same pass of the loop, and whoever asks for
something small would wait for all of them. With turns, the loop looks at every socket between two of them.
"""

from __future__ import annotations

import asyncio
import collections


class Turns:
    """One turn in each pass of the event loop, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    async def take(self) -> None:
        """Returns when it is the caller's turn; it ends where the caller waits for something the next time."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        if len(self._waiting) == 1:
            loop.call_soon(self._give)
        await turn

    def _give(self) -> None:
        turn = self._waiting.popleft()
        if not turn.done():  # its caller has not been cancelled
            turn.set_result(None)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give)
