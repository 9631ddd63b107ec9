"""Tries one method after the other, for ever."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from confidential_bookstore.errors import StoreUnavailable
from services.bookthief.diary import Diary, Entry
from services.bookthief.methods import Method, Refused

_log = structlog.get_logger()


class Thief:
    """Steals, and writes down what came of it."""

    def __init__(self, methods: Sequence[Method], diary: Diary, *, clock: Callable[[], float] = time.time) -> None:
        self._methods = methods
        self._diary = diary
        self._clock = clock

    async def run(self, interval: float, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """One method every `interval` seconds, in turn, until cancelled."""
        for method in itertools.cycle(self._methods):
            try:
                await self.attempt(method)
            except StoreUnavailable as error:
                _log.warning("theft.not_written_down", method=method.name, reason=str(error))
            await sleep(interval)

    async def attempt(self, method: Method) -> None:
        """One theft, from trying to writing it down.

        Raises:
            StoreUnavailable: it cannot be written down.
        """
        try:
            stolen = await method.steal()
        except Refused as refused:
            _log.info("theft.refused", method=method.name, reason=str(refused))
            self._diary.record(Entry(method=method.name, at=self._clock(), refused=1, last_refusal=str(refused)))
        else:
            _log.warning("theft.succeeded", method=method.name, stolen=stolen)
            self._diary.record(Entry(method=method.name, at=self._clock(), stolen=stolen))
