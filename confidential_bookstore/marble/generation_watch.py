"""Hears of every update of the manifest within a moment: a request that the coordinator answers when there is news.

What is learned lasts: while the coordinator is away, the last known generations stay in force. An original coordinator
tells none; then there is nothing to watch.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable

import structlog
from cryptography import x509

from confidential_bookstore.errors import BookstoreError, CoordinatorUnavailable, CoordinatorUntrusted
from confidential_bookstore.marble.activation import Sleep
from confidential_bookstore.marble.generations import Generations
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.pinned_https import PinnedConnection

_PATH = "/api/v2/generations"
_FIRST_SECONDS = 5.0
_ANSWER_SECONDS = 40.0  # the coordinator answers within 20, news or not
_SOONEST = 1.0  # between two answers without news: a coordinator with too many marbles lets nobody wait
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 5.0
_NO_SUCH_ENDPOINT = 405

_log = structlog.get_logger()


class GenerationWatch:
    """Keeps `live` informed, by one connection to the coordinator.

    Args:
        address: `host:port` of the coordinator's client API.
        live: what is learned goes there; its identity says which root certificate the coordinator has.
        changed: called after something new has been learned.
        sleep: waits so many seconds.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        address: str,
        live: LiveIdentity,
        changed: Callable[[], None],
        *,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._live = live
        self._changed = changed
        self._sleep = sleep
        self._jitter = jitter

    async def first(self) -> None:
        """Asks once, for a bounded time; a failure is logged, and `run` will ask again."""
        try:
            async with asyncio.timeout(_FIRST_SECONDS), await self._connect() as connection:
                await self._ask(connection)
        except (BookstoreError, TimeoutError) as error:
            _log.warning("generations.unknown", reason=str(error) or "the coordinator takes too long")

    async def run(self) -> None:
        """Watches until it is cancelled, or until the coordinator says that it tells no generations."""
        wait = _FIRST_WAIT
        while True:
            try:
                async with await self._connect() as connection:
                    while True:
                        asked = asyncio.get_running_loop().time()
                        news = await self._ask(connection)
                        wait = _FIRST_WAIT
                        if news is None:
                            _log.info("generations.none", reason="an original coordinator: there is nothing to watch")
                            return
                        if not news:
                            await self._sleep(max(0.0, asked + _SOONEST - asyncio.get_running_loop().time()))
            except BookstoreError as error:
                _log.warning("generations.away", reason=str(error), hint="what was known last stays in force")
            await self._sleep(wait * (0.5 + self._jitter() / 2))
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _connect(self) -> PinnedConnection:
        root = x509.load_pem_x509_certificate(self._live.current.coordinator_root_pem)
        return await PinnedConnection.open(self._address, root)

    async def _ask(self, connection: PinnedConnection) -> bool | None:
        """Whether there was news; None if there is no such endpoint."""
        known = self._live.generations
        path = _PATH if known is None else f"{_PATH}?known={known.number}"
        status, body = await connection.get(path, _ANSWER_SECONDS)
        if status == _NO_SUCH_ENDPOINT:
            return None
        if status != 200:
            raise CoordinatorUnavailable("the coordinator tells no generations now", got=f"HTTP {status}")
        try:
            data = json.loads(body)["data"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise CoordinatorUntrusted("the coordinator's answer is malformed", got=type(error).__name__) from error
        learned = Generations.parse(data)
        if known is not None and learned.number < known.number:
            raise CoordinatorUntrusted(
                "the coordinator has gone back to an earlier generation", got=learned.number, expected=known.number
            )
        if learned == known:
            return False
        self._live.learn(learned)
        _log.info("generations.changed", generation=learned.number, previous=[each.number for each in learned.previous])
        self._changed()
        return True
