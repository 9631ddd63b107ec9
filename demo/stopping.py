"""When an ordinary process of the demo stops: at a signal, or with the demo itself."""

from __future__ import annotations

import asyncio
import signal
import sys


async def asked_to_stop() -> None:
    """A signal, or the end of standard input: the supervisor holds the other end, so it closes with it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if not sys.stdin.isatty():
        loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
