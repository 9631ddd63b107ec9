"""Puts changes of trust in force at once, wherever this marble has connections.

Two things change it: the coordinator tells of a new generation, or the time comes at which an earlier one ends for a
marble type. Then channels and servers look again, each in its own way; and a marble whose own certificate is of an
earlier generation renews it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from confidential_bookstore.marble.identity import LiveIdentity


class Follower(Protocol):
    """A channel or a server."""

    def follow(self) -> None:
        """Acts on what `LiveIdentity` says now."""
        ...


class Enforcement:
    """Runs until it is cancelled.

    Args:
        live: what is trusted.
        followers: who acts on it; read anew each time.
        renew_now: wakes the renewal.
        clock: Unix seconds.
    """

    def __init__(
        self,
        live: LiveIdentity,
        followers: Callable[[], Sequence[Follower]],
        renew_now: Callable[[], None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._live = live
        self._followers = followers
        self._renew_now = renew_now
        self._clock = clock
        self._woken = asyncio.Event()

    def changed(self) -> None:
        """Says that the coordinator has told of other generations."""
        self._follow()
        if self._live.outdated:
            self._renew_now()
        self._woken.set()

    async def run(self) -> None:
        """Notices deadlines."""
        while True:
            deadline = self._live.next_deadline()
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if deadline is None else deadline - self._clock()):
                    await self._woken.wait()
            self._live.refresh()
            self._follow()

    def _follow(self) -> None:
        for follower in self._followers():
            follower.follow()
