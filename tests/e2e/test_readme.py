"""Every command of the README is run, and every line of what one should see is seen."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from auditor import bought

from demo.observation import observe

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def run(command: list[str], **options) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "MAKEFLAGS": ""}
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, env=environment, **options)


def test_each_command_of_the_readme_is_run_here():
    """`make test` is what runs this."""
    assert [command.split()[:3] for command in COMMANDS] == [
        ["make", "demo"],
        ["export", "PATH=$PWD/.venv/bin:$PATH"],
        ["export", "CBS_CONTEXT=.run/owner/contexts.json"],
        ["cbs", "verify", "--evidence"],
        ["python", "docs/verify_evidence.py", "evidence"],
        ["cbs", "marble", "list"],
        ["cbs", "manifest", "update"],
        ["cbs", "manifest", "log"],
        ["cbs", "policy", "explain"],
        ["cbs", "policy", "allow"],
        ["cbs", "policy", "deny"],
        ["cbs", "split", "50"],
        ["cbs", "mesh", "status"],
        ["make", "test"],
        ["cbs", "enclave", "sign"],
        ["cbs", "enclave", "info"],
    ]


async def test_what_its_owner_asks(system, tmp_path):
    """Run as written, while everything runs; and the update does what the README says."""
    running = system()
    project = tmp_path / "project"
    project.mkdir()
    (project / "docs").symlink_to(ROOT / "docs")
    (project / ".run").symlink_to(running.workspace.root)
    async with running:
        await bought(running, more_than=0)
        script = "\n".join(["set -e", *(line for line in COMMANDS if line.split()[0] in ("export", "python", "cbs"))])
        script = script[: script.index("cbs policy")]
        done = await asyncio.to_thread(run, ["bash", "-c", script], cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"^Verdict +verified$", done.stdout, re.MULTILINE)
        assert re.search(r"^verified$", done.stdout, re.MULTILINE)  # the script that checks the evidence
        assert re.search(r"^bookwarehouse .* version 1 ", done.stdout, re.MULTILINE)
        assert (
            '"update":"SecurityVersion increased","user":"owner","package":"bookbuyer","new version":2' in done.stdout
        )
        log = running.workspace.logs / "bookbuyer.log"
        for _ in range(100):
            if "revoked-by-manifest-update" in await asyncio.to_thread(log.read_text):
                break
            await asyncio.sleep(0.1)
        assert "revoked-by-manifest-update" in await asyncio.to_thread(log.read_text)


def test_make_demo_shows_what_the_readme_says(run_dir, network):
    options = f"--once --output json --run-dir {run_dir} --network {network}"
    done = run(["make", "-s", "demo", f"ARGS={options}", f"PYTHON={sys.executable}"], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [(row["part"], row["expected"]) for row in json.loads(done.stdout)["outcomes"]]
    promised = re.findall(r"^  ok   (.+?) {2,}(.+)$", README, re.MULTILINE)
    assert promised == told


def test_enclave_commands(run_dir, tmp_path_factory):
    """Run as written, in a folder that has the sources and a `.run`."""
    project = tmp_path_factory.mktemp("project")
    for name in ("confidential_bookstore", "coordinator", "services", "cli", "demo", "pyproject.toml"):
        (project / name).symlink_to(ROOT / name)
    (project / ".run").symlink_to(run_dir)
    sign, info = (shlex.split(command) for command in COMMANDS if command.startswith("cbs enclave"))
    signed = run(sign, cwd=project)
    assert signed.returncode == 0, signed.stderr
    shown = run([*info, "--output", "json"], cwd=project)
    assert shown.returncode == 0, shown.stderr
    facts = json.loads(shown.stdout)
    assert facts["BelongTogether"] is True
    assert (facts["ProductID"], facts["Debug"]) == (3, False)
    assert facts["UniqueID"] in signed.stdout


async def test_who_may_call_whom(system, tmp_path):
    """Run as written, with sidecars, and each command does what the README says of it."""
    running = system(sidecars=True, auditor=False, bookthief={"CBS_STEAL_INTERVAL": "0.2"})
    project = tmp_path / "project"
    project.mkdir()
    (project / ".run").symlink_to(running.workspace.root)
    lines = [line for line in COMMANDS if line.startswith(("cbs policy", "cbs split", "cbs mesh"))]
    exports = [line for line in COMMANDS if line.startswith("export")]
    said = {}

    async def command(name: str) -> None:
        [line] = [line for line in lines if line.startswith(name)]
        done = await asyncio.to_thread(run, ["bash", "-c", "\n".join(["set -e", *exports, line])], cwd=project)
        assert done.returncode == 0, done.stdout + done.stderr
        said[line] = done.stdout

    async def stolen() -> int:
        return (await observe(running.topology)).counter("bookthief", "books_stolen")

    async with running:
        await bought(running, more_than=0)
        await command("cbs policy explain")
        assert await stolen() == 0
        await command("cbs policy allow")
        async with asyncio.timeout(30):
            while not await stolen():  # noqa: ASYNC110  # another process counts
                await asyncio.sleep(0.2)
        await command("cbs policy deny")
        await asyncio.sleep(1)
        before = await stolen()
        await asyncio.sleep(3)
        assert await stolen() == before
        await command("cbs split")
        await bought(running, more_than=0, counter="books_bought_from_bookstore_v2")
        await command("cbs mesh status")
    assert set(said) == set(lines)
    assert "traffic-access-v1.yaml" in said[lines[0]]
