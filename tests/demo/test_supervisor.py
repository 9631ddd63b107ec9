"""The supervisor, with short-lived ordinary programs in place of enclaves."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from confidential_bookstore.errors import EnclaveError
from demo.supervisor import Program, Supervisor


class Programs(Supervisor):
    """Runs what stands in the image as a shell command, and takes a moment to start it."""

    broken = False

    def _launch(self, program: Program) -> Any:
        if self.broken:
            raise EnclaveError("cannot start the enclave")
        time.sleep(0.05)
        return SimpleNamespace(process=subprocess.Popen(["/bin/sh", "-c", f"exec {program.image.decode()}"]))


def program(name: str, command: str) -> Program:
    return Program(name, command.encode(), b"", {}, Path("/dev/null"))


async def until(condition) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it takes too long")


async def start_later(supervisor: Supervisor, number: int) -> None:
    await asyncio.sleep(number * 0.03)
    await supervisor.start(program(f"stays{number}", "sleep 60"))


async def test_what_ends_is_started_again_while_more_is_being_started():
    platform: Any = None
    async with Programs(platform) as supervisor:
        await supervisor.start(program("ends", "true"))
        await asyncio.gather(*(start_later(supervisor, number) for number in range(20)))
        await until(lambda: supervisor.restarts("ends") >= 2)
        processes = [supervisor._running[name].enclave.process for name in supervisor._running]
    assert all(process.poll() is not None for process in processes)


async def test_a_program_that_cannot_be_started_again_leaves_no_other_behind():
    platform: Any = None
    supervisor = await Programs(platform).__aenter__()
    await supervisor.start(program("stays", "sleep 60"))
    stays = supervisor._running["stays"].enclave.process
    await supervisor.start(program("ends", "true"))
    supervisor.broken = True
    await until(supervisor._watching.done)
    with pytest.raises(EnclaveError):
        await supervisor.__aexit__(None, None, None)
    assert stays.poll() is not None
