"""The file that a sidecar writes its access log to, read while it grows, and emptied when it is long.

A file and no pipe: the Envoy outlives who reads. Until the next reader comes, the file grows with each refused call.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_LOOK_SECONDS = 0.1
_LONG = 1024 * 1024
_AT_ONCE = 256 * 1024


class AccessFile:
    """One file. `line` is called with each line that is added while it is followed."""

    def __init__(self, path: Path, line: Callable[[bytes], None]) -> None:
        self._path = path
        self._line = line
        self._position = 0
        self._rest = b""

    def opened(self) -> BinaryIO:
        """For the writer, who always writes at the end. What is there already is not read: it was told before."""
        file = self._path.open("ab")
        self._position = file.tell()
        return file

    async def follow(self) -> None:
        """Reads until it is cancelled."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(OSError):  # it is only told of; calls do not depend on it
                self._read()

    def _read(self) -> None:
        """Takes what was added, up to a bound."""
        with self._path.open("r+b") as file:
            file.seek(self._position)
            added = file.read(_AT_ONCE)
            self._position += len(added)
            if len(added) < _AT_ONCE and self._position > _LONG:
                file.truncate(0)  # a line that is written right now may be lost; it is a count of refusals
                self._position = 0
        *lines, self._rest = (self._rest + added).split(b"\n")
        for each in lines:
            self._line(each)
