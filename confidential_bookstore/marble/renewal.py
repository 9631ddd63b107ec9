"""Keeps a marble's certificate fresh: at two thirds of its life the marble is attested again.

The coordinator is verified again, too. One that is away is asked again until it is back. A refusal is final: it is
logged, the certificate in hand is used while it lasts, and then the marble stops serving; only a restart helps.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from confidential_bookstore.errors import ActivationDenied, BookstoreError
from confidential_bookstore.marble.activation import Activation, Sleep
from confidential_bookstore.marble.identity import LiveIdentity

_RENEW_AFTER = 2 / 3
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0

_log = structlog.get_logger()


class Renewal:
    """Runs until it is cancelled, or for good after a refusal.

    Args:
        live: the identity to be replaced.
        activate: one attempt; raises a `BookstoreError` if it fails.
        renewed: called with every new activation, after the identity is in force.
        expired: called, possibly several times, while the certificate is past its time.
        clock: Unix seconds.
        sleep: waits so many seconds.
        jitter: a number from 0 to 1.
    """

    def __init__(
        self,
        live: LiveIdentity,
        activate: Callable[[], Awaitable[Activation]],
        *,
        renewed: Callable[[Activation], Awaitable[None]],
        expired: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._live = live
        self._activate = activate
        self._renewed = renewed
        self._expired = expired
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    async def run(self) -> None:
        """Renews again and again; returns only after a refusal, when the certificate has expired."""
        while True:
            await self._sleep(_RENEW_AFTER * self._seconds_left())
            try:
                activation = await self._until_activated()
            except ActivationDenied as error:
                seconds = self._seconds_left()
                _log.error("renewal.denied", reason=str(error), hint=error.hint, serves_for=round(seconds))
                await self._sleep(seconds)
                await self._expired()
                return
            self._live.replace(activation.identity)
            try:
                await self._renewed(activation)
            except BookstoreError as error:  # the new certificate is in force; the next renewal must still come
                _log.error("renewal.incomplete", reason=str(error), hint=error.hint)
            _log.info("renewal.done", expires=activation.identity.not_after)

    async def _until_activated(self) -> Activation:
        wait = _FIRST_WAIT
        while True:
            try:
                return await self._activate()
            except ActivationDenied:
                raise
            except BookstoreError as error:
                left = self._seconds_left()
                _log.error("renewal.failed", reason=str(error), hint=error.hint, certificate_seconds_left=round(left))
            if not left:
                await self._expired()
            pause = wait * (0.5 + self._jitter() / 2)
            await self._sleep(min(pause, left) if left else pause)
            wait = min(wait * 2, _LONGEST_WAIT)

    def _seconds_left(self) -> float:
        return max(0.0, self._live.current.not_after - self._clock())
