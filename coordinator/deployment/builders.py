"""Threads that make what an activation gets. OpenSSL works outside Python's lock, so the event loop stays free.

RSA keys take up to seconds: they are made in threads of their own and at a lower priority, so that marbles which need
none never wait for them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_NICENESS = 10


class Builders:
    """Two pools; `close` when no work is under way."""

    def __init__(self) -> None:
        cores = os.cpu_count() or 1
        self._usual = ThreadPoolExecutor(cores, "builder")
        self._slow = ThreadPoolExecutor(max(1, cores // 2), "slow builder", _step_back)

    async def run(self, work: Callable[[], T], *, slow: bool) -> T:
        """The result of `work`, from a thread."""
        pool = self._slow if slow else self._usual
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    def close(self) -> None:
        """Ends the threads when they are through with what they have begun; what waits is dropped."""
        self._usual.shutdown(cancel_futures=True)
        self._slow.shutdown(cancel_futures=True)


def _step_back() -> None:
    """Lowers the priority of the calling thread; on Linux, of no other."""
    with contextlib.suppress(OSError):  # not every enclave can
        os.nice(_NICENESS)
