"""The supervisor, with short-lived shell commands in place of services."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from confidential_bookstore.errors import EnclaveError
from demo.launching import Launch, as_it_is
from demo.supervisor import Program, Supervisor


def slowly(command: str) -> Launch:
    """Takes a moment to start it, as an enclave does."""
    start = as_it_is(["/bin/sh", "-c", f"exec {command}"], {})

    def launch(log):
        time.sleep(0.05)
        return start(log)

    return launch


def program(name: str, command: str) -> Program:
    return Program(name, slowly(command), Path("/dev/null"))


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
    async with Supervisor() as supervisor:
        await supervisor.start(program("ends", "true"))
        await asyncio.gather(*(start_later(supervisor, number) for number in range(20)))
        await until(lambda: supervisor.restarts("ends") >= 2)
        processes = [supervisor._running[name].process for name in supervisor._running]
    assert all(process.poll() is not None for process in processes)


async def test_a_program_that_cannot_be_started_again_leaves_no_other_behind():
    broken = False

    def launch(log):
        if broken:
            raise EnclaveError("cannot start the enclave")
        return slowly("true")(log)

    supervisor = await Supervisor().__aenter__()
    await supervisor.start(program("stays", "sleep 60"))
    stays = supervisor._running["stays"].process
    await supervisor.start(Program("ends", launch, Path("/dev/null")))
    broken = True
    await until(supervisor._watching.done)
    with pytest.raises(EnclaveError):
        await supervisor.__aexit__(None, None, None)
    assert stays.poll() is not None


def test_an_ordinary_process_sees_the_end_of_whoever_started_it(tmp_path):
    """Its standard input ends then, also when nobody has had the time to say so."""
    script = f"""
import os, pathlib, signal
from demo.launching import as_it_is
with open({str(tmp_path / "log")!r}, "wb") as log:
    as_it_is(["/bin/sh", "-c", "echo started; cat; echo ended"], {{}})(log)
while not pathlib.Path({str(tmp_path / "log")!r}).read_text():
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False, timeout=30)
    for _ in range(250):
        if (tmp_path / "log").read_text() == "started\nended\n":
            return
        time.sleep(0.02)
    raise AssertionError((tmp_path / "log").read_text())
