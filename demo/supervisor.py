"""Keeps programs running: starts them, restarts what ends, and leaves nothing behind.

It plays the part of kubelet or docker, for enclaves and for ordinary processes alike. What ends is started again with a
growing pause, so a marble that the coordinator refuses does not spin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from demo.launching import Launch

_POLL_SECONDS = 0.05
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 3.0
_STABLE_SECONDS = 10.0
_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Program:
    """Something to keep running.

    Attributes:
        name: for logs and for `Supervisor.pid`.
        launch: starts it.
        log: file that its output is appended to.
    """

    name: str
    launch: Launch
    log: Path


@dataclass(slots=True)
class _Running:
    program: Program
    process: subprocess.Popen[bytes]
    since: float
    pause: float = _FIRST_PAUSE
    restart_at: float | None = None
    restarts: int = 0
    stopped: bool = False


class Supervisor:
    """Starts, watches and stops programs. Use it as an async context manager."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._stopping = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._watching = asyncio.create_task(self._watch(), name="supervisor")
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._stopping.set()
        try:
            if self._watching is not None:
                await self._watching  # a launch that is under way ends first, so that its process is known
        finally:
            await self._stop_all()

    async def start(self, program: Program) -> None:
        """Launch a program.

        Raises:
            EnclaveError: image and SIGSTRUCT of an enclave do not belong together.
        """
        process = await asyncio.to_thread(_launch, program)
        self._running[program.name] = _Running(program, process, time.monotonic())

    async def stop(self, name: str) -> None:
        """SIGTERM to one program, SIGKILL after ten seconds; it is not started again."""
        running = self._running.pop(name)
        running.stopped = True
        await _end([running.process])

    def pid(self, name: str) -> int:
        """The process id of a running program."""
        return self._running[name].process.pid

    def restarts(self, name: str) -> int:
        """How often a program had to be started again."""
        return self._running[name].restarts

    def last_words(self, name: str) -> str | None:
        """Why a program had to be started again: the last error in its log; None if it has always been up."""
        running = self._running.get(name)
        if running is None or (running.restarts == 0 and running.process.poll() is None):
            return None
        for line in reversed(running.program.log.read_text(errors="replace").splitlines()):
            if (words := _error(line, name)) is not None:
                return words
        return "it ended without a word"

    async def _watch(self) -> None:
        while not self._stopping.is_set():
            for running in list(self._running.values()):  # more may be started meanwhile
                if running.process.poll() is not None:
                    await self._revive(running)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _POLL_SECONDS)

    async def _revive(self, running: _Running) -> None:
        now = time.monotonic()
        if running.restart_at is None:
            if now - running.since > _STABLE_SECONDS:
                running.pause = _FIRST_PAUSE
            running.restart_at = now + running.pause
            running.pause = min(running.pause * 2, _LONGEST_PAUSE)
        elif now >= running.restart_at:
            _forget(running.process)
            process = await asyncio.to_thread(_launch, running.program)
            if running.stopped:  # meanwhile
                await _end([process])
                return
            running.process = process
            running.since, running.restart_at = time.monotonic(), None
            running.restarts += 1

    async def _stop_all(self) -> None:
        """SIGTERM to all, the latest started first; SIGKILL to what is left after ten seconds."""
        processes = [running.process for running in reversed(self._running.values())]
        self._running.clear()
        await _end(processes)


async def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            await asyncio.to_thread(process.wait, max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        _forget(process)


def _launch(program: Program) -> subprocess.Popen[bytes]:
    program.log.parent.mkdir(parents=True, exist_ok=True)
    with program.log.open("ab") as log:
        return program.launch(log)


def _forget(process: subprocess.Popen[bytes]) -> None:
    """Closes our end of the standard input of a process that has ended."""
    if process.stdin is not None:
        process.stdin.close()


def _error(line: str, name: str) -> str | None:
    """The message of a JSON log line of level error, or of a plain line of this program; None if it is another line."""
    if line.startswith(f"{name}: "):
        return line.partition(": ")[2]
    try:
        entry = json.loads(line)
        if entry["level"] not in {"error", "critical"}:
            return None
    except (ValueError, KeyError, TypeError):
        return None
    return str(entry.get("reason") or entry.get("error") or entry["event"])
