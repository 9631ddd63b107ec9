"""The commands of the how-tos that need nothing but this machine, run as they are written."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
SEVERAL = (ROOT / "docs/howto/several-coordinators.md").read_text()
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def commands_of(section: str) -> str:
    """The first console block below a heading, without prompts."""
    block = re.search(rf"^## {re.escape(section)}$.*?```console\n(.*?)```", SEVERAL, re.DOTALL | re.MULTILINE)
    assert block is not None
    return re.sub(r"^\$ ", "", block[1], flags=re.MULTILINE)


async def root_at(address: str, folder: Path) -> str:
    """The root certificate that `cbs certificate root` gets, as soon as the coordinator answers."""
    command = ["cbs", "certificate", "root", "--coordinator", address, "--trust-root", "platform/root.pem"]
    command += ["--pccs", "http://127.0.0.1:8081", "--policy", "policy.json"]
    end = time.monotonic() + 60
    while True:
        asking = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env={**os.environ, "PATH": PATH}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        said, problem = await asking.communicate()
        if asking.returncode == 0:
            return said.decode()
        assert time.monotonic() < end, problem.decode()
        await asyncio.sleep(0.5)


async def test_two_coordinators_on_one_machine(tmp_path, network):
    for name in ("confidential_bookstore", "coordinator", "services", "cli", "demo", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    hosts = [f"{network}.21", f"{network}.22"]
    script = commands_of("On one machine, to see it").replace("127.0.0.2", f"{network}.2")
    environment = {**os.environ, "PATH": PATH}
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f"set -e\n{script}\nwait",
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        info = ["cbs", "enclave", "info", "build/coordinator.enclave", "--output", "json"]
        while not (tmp_path / "build/coordinator.sig").exists():
            assert shell.returncode is None
            await asyncio.sleep(0.2)
        measured = await asyncio.to_thread(
            subprocess.run, info, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        unique_id = re.search(r'"UniqueID": "([0-9a-f]{64})"', measured.stdout)[1]
        (tmp_path / "policy.json").write_text(f'{{"UniqueID": "{unique_id}"}}')
        roots = [await root_at(f"{host}:4433", tmp_path) for host in hosts]
        assert roots[0] == roots[1]
        assert "BEGIN CERTIFICATE" in roots[0]
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        await asyncio.wait_for(shell.communicate(), 30)
