"""`cbs mesh ...` as a person types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from controller_world import THIEF, MeshWorld, buy, seconds_until

pytestmark = pytest.mark.usefixtures("envoy")


@pytest.fixture
def world(tmp_path, pytestconfig) -> MeshWorld:
    return MeshWorld(tmp_path, pytestconfig.rootpath)


def cbs(world, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli", "mesh", *words]
    return subprocess.run(command, cwd=world.project, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def running(world):
    """`cbs mesh run`; what it prints is in `said`, a file."""
    command = [sys.executable, "-m", "cli", "mesh", "run", str(world.folder), "--output", "json"]
    said = world.folder / "said"
    with said.open("wb") as out, subprocess.Popen(command, cwd=world.project, stdout=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(15)


def events(world) -> list[dict]:
    return [json.loads(line) for line in (world.folder / "said").read_text().splitlines()]


def status_code(world) -> int:
    return cbs(world, "status", str(world.folder)).returncode


async def test_run_status_permissive_and_stop(world, running):
    folder = str(world.folder)
    await seconds_until(lambda: status_code(world) == 0, within=30)
    async with world.store(), world.caller(THIEF) as thief:
        await seconds_until(lambda: _is(thief, "PERMISSION_DENIED"))

        done = cbs(world, "permissive", "on", folder)
        assert done.returncode == 0, done.stderr
        assert "in force" in done.stdout
        assert "PERMISSIVE MODE" in done.stderr
        assert await buy(thief) == "OK"
        said = cbs(world, "status", folder).stdout
        assert said.startswith("PERMISSIVE MODE")

        done = cbs(world, "permissive", "off", folder)
        assert done.returncode == 0, done.stderr
        assert await buy(thief) == "PERMISSION_DENIED"
        assert cbs(world, "permissive", "off", folder).stdout.strip().endswith("nothing to change")

        def counted():
            return json.loads(cbs(world, "status", folder, "--output", "json").stdout)["refusals"]

        await seconds_until(lambda: any(row["count"] >= 2 for row in counted()))

    assert "another control plane" in cbs(world, "run", folder).stderr
    running.send_signal(signal.SIGTERM)
    assert running.wait(15) == 0
    assert [each["permissive"] for each in events(world) if each["event"] == "in-force"] == [False, True, False]
    assert [each["rule"] for each in events(world) if each["event"] == "call-refused"] == ["deny-by-default"]
    stopped = cbs(world, "status", folder)
    assert stopped.returncode == 1
    assert "does not run" in stopped.stdout


async def test_a_broken_policy_is_told_with_file_and_line(world, running):
    await seconds_until(lambda: status_code(world) == 0, within=30)
    (world.policy / "z.yaml").write_text("kind: TrafficTarget\nspec: {\n")
    await seconds_until(lambda: [each for each in events(world) if each["event"] == "policy-refused"])
    assert "z.yaml:" in events(world)[-1]["message"]
    done = cbs(world, "status", str(world.folder))
    assert done.returncode == 1
    assert "z.yaml:" in done.stdout
    refused = cbs(world, "permissive", "on", str(world.folder))  # nothing is changed in a broken folder
    assert refused.returncode == 3
    assert "z.yaml:" in refused.stderr


@pytest.mark.parametrize("words", [("run",), ("status",), ("permissive", "on")])
def test_a_folder_that_is_none(world, words):
    done = cbs(world, *words, str(world.folder / "nowhere"))
    assert done.returncode == 3
    assert "hint: " in done.stderr or "no such folder" in done.stderr


async def _is(channel, status: str) -> bool:
    return await buy(channel) == status
