"""GET /api/v2/generations: which marble certificates are accepted, and a way to hear of it when that changes.

Beyond MarbleRun, whose marbles never hear of an update. The caller names the generation that it knows and waits until
there is another one. A caller that waits costs a connection, so only some may.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from aiohttp import web

from confidential_bookstore.errors import InvalidRequest
from coordinator.client_api.authentication import Identify
from coordinator.client_api.envelope import success
from coordinator.client_api.routes import Incoming
from coordinator.deployment.live import LiveDeployment
from coordinator.monitoring.events import Clock

LONGEST_WAIT: Final = 20.0  # seconds
MOST_WAITING: Final = 1536  # three quarters of the connections

_KNOWN = re.compile(r"[0-9]{1,18}", re.ASCII)


class GenerationEndpoint:
    """The endpoint, and those who wait at it."""

    def __init__(self, live: LiveDeployment, clock: Clock) -> None:
        self._live = live
        self._clock = clock
        self._waiting: set[asyncio.Task[None]] = set()
        self._released = False

    async def get(self, _who: Identify[None], known: int | None) -> web.Response:
        """At once without `known`; with it, when there is another generation or `LONGEST_WAIT` is over."""
        if known is not None and len(self._waiting) < MOST_WAITING and not self._released:
            waiting = asyncio.ensure_future(self._live.wait_for_change(known, LONGEST_WAIT))
            self._waiting.add(waiting)
            try:
                await asyncio.wait([waiting])
            finally:
                waiting.cancel()
                self._waiting.discard(waiting)
        return success(self._live.current.generation_report(self._clock()))

    def release(self) -> None:
        """Whoever waits is answered now, and nobody waits any more."""
        self._released = True
        for waiting in list(self._waiting):
            waiting.cancel()


def read_known(incoming: Incoming) -> int | None:
    """`known` of the query, a number of a generation."""
    text = incoming.query.get("known")
    if text is None:
        return None
    if not _KNOWN.fullmatch(text):
        raise InvalidRequest("invalid query: known is not a generation", expected="a whole number")
    return int(text)
