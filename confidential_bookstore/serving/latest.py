"""A value that can be watched: now, and again after every change.

A watcher that is slow misses values in between but never the last one. So nobody who publishes ever waits for a
watcher, and a watcher costs no queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Holds the latest value for any number of watchers. Belongs to one event loop."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._changed: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def value(self) -> T:
        """The value now."""
        return self._value

    def set(self, value: T) -> None:
        """Publish, also when the value is an equal one."""
        self._value = value
        self._wake()

    def close(self) -> None:
        """End all watches, after the last value."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def watch(self) -> AsyncIterator[T]:
        """The value now, and then the latest one whenever there has been a change since."""
        while True:
            if self._changed is None:
                self._changed = asyncio.get_running_loop().create_future()
            changed = self._changed
            yield self._value
            if self._closed:
                return
            # Shielded: the watchers share the future, and one that leaves must not cancel it for the others.
            await asyncio.shield(changed)
