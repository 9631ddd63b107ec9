"""Log lines that anybody on the network can cause, at a rate that fills no disk."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger()

_LEVELS = frozenset({"debug", "info", "warning", "error"})


class PacedLog:
    """Writes at most one line in `seconds`; the next one that is written says how many were left out before it.

    Keep one for each kind of line, so that a flood of one kind hides nothing of another.

    Args:
        level: "debug", "info", "warning" or "error".
        seconds: between two lines.
        clock: seconds, which never go back.

    Raises:
        ValueError: there is no such level.
    """

    def __init__(self, level: str, *, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        if level not in _LEVELS:
            raise ValueError(f"{level!r} is no level of the log")
        self._level = level
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")
        self._suppressed = 0

    def __call__(self, event: str, **content: object) -> None:
        """The line, or nothing but its being counted."""
        now = self._clock()
        if now < self._next:
            self._suppressed += 1
            return
        if self._suppressed:
            content["suppressed"] = self._suppressed
        self._next, self._suppressed = now + self._seconds, 0
        getattr(log, self._level)(event, **content)
