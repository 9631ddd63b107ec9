"""Keeps a marble's certificate fresh: at two thirds of its life, or when asked to, the marble is attested again.

The coordinator is verified again, too. One that is away is asked again until it is back. A refusal is final unless the
manifest changes: it is logged, the certificate in hand is used while peers accept it, and then the marble stops
serving; only a restart helps.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable

import structlog

from confidential_bookstore.errors import ActivationDenied, BookstoreError
from confidential_bookstore.marble.activation import Activation, Sleep
from confidential_bookstore.marble.identity import LiveIdentity

_RENEW_AFTER = 2 / 3
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
# An update asks all marbles at once. They come one after the other, and not before their peers have heard of it, too.
_SOONEST, _LATEST = 0.1, 0.5
_AGAIN = 1.0  # when one of several coordinators has not heard of the update yet

_log = structlog.get_logger()


class Renewal:
    """Runs until it is cancelled, or for good after a refusal.

    Args:
        live: the identity to be replaced.
        activate: one attempt; raises a `BookstoreError` if it fails.
        renewed: called with every new activation, after the identity is in force.
        expired: called, possibly several times, while peers do not accept the certificate any longer.
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
        self._wanted = asyncio.Event()

    def renew_now(self) -> None:
        """Ends the wait for the next renewal, except for a random moment."""
        self._wanted.set()

    async def run(self) -> None:
        """Renews again and again; returns only after a refusal, when the certificate is of no use any longer."""
        while True:
            await self._pause(_AGAIN if self._live.outdated else _RENEW_AFTER * self._seconds_left())
            while (activation := await self._unless_denied()) is None:
                if not await self._pause(self._seconds_left()):
                    await self._expired()
                    return
            self._live.replace(activation.identity)
            self._wanted.clear()
            try:
                await self._renewed(activation)
            except BookstoreError as error:  # the new certificate is in force; the next renewal must still come
                _log.error("renewal.incomplete", reason=str(error), hint=error.hint)
            _log.info("renewal.done", expires=activation.identity.not_after)

    async def _unless_denied(self) -> Activation | None:
        try:
            return await self._until_activated()
        except ActivationDenied as error:
            left = round(self._seconds_left())
            _log.error(
                "renewal.denied", reason=str(error), hint=error.hint, serves_for=left, revoked=self._live.revoked
            )
            return None

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
            await self._pause(min(pause, left) if left else pause)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _pause(self, seconds: float) -> bool:
        """Waits so long; returns early, and True, if a renewal is wanted now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()
        if not self._wanted.is_set():
            return False
        self._wanted.clear()
        await self._sleep(_SOONEST + self._jitter() * (_LATEST - _SOONEST))
        return True

    def _seconds_left(self) -> float:
        return max(0.0, self._live.accepted_until - self._clock())
