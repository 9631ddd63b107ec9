"""`cbs up`, and what happens to the books of each stage when something goes wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from auditor import bought

from demo.mesh import VARIANTS, Mesh
from demo.observation import thefts
from demo.ordinary import OrdinarySystem
from demo.stages import Stage
from demo.stories import trading
from demo.stories.mesh import THIEF
from demo.topology import MARBLES, Topology, key_of
from demo.workspace import Workspace
from services.bookthief.methods import Refused
from services.bookthief.methods.plaintext import Plaintext

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
CBS = [sys.executable, "-m", "cli"]
SETTINGS = {"bookbuyer": {"CBS_BUY_INTERVAL": "0.1"}, "bookthief": {"CBS_STEAL_INTERVAL": "0.1"}}


@pytest.fixture
def meshed(tmp_path, network, envoy):
    """A function that makes stage `mesh`, with its policy in force or permissive."""

    def make(*, permissive: bool = False) -> tuple[OrdinarySystem, Mesh]:
        workspace = Workspace(tmp_path).ordinary(Stage.MESH)
        topology = Topology(network, workspace.state, SETTINGS, sidecars=True)
        mesh = Mesh(tmp_path / "mesh", topology, Stage.MESH, permissive=permissive)
        return OrdinarySystem(workspace, topology, mesh=mesh), mesh

    return make


async def until(system, condition) -> None:
    seen = await trading.until(system.observe, condition, seconds=30)
    assert condition(seen), seen


@pytest.mark.parametrize("stage", ["plain", "mesh", "confidential"])
def test_up_starts_a_stage_and_says_how_to_talk_to_it(run_dir, network, stage, envoy):
    log = run_dir / "up.log"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [*CBS, "up", "--stage", stage, "--run-dir", str(run_dir), "--network", network, "--output", "json"],
            stdout=subprocess.PIPE,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 60
        while f"http://{network}.1:8085" not in log.read_text() and up.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert up.poll() is None, log.read_text()
        text, facts = log.read_text(), json.loads(up.stdout.readline())
        assert facts["services"]["bookstore-v2"] == f"{network}.15:14001"
        assert (facts["mesh"] is None, facts["contexts"] is None) == (stage == "plain", stage != "confidential")
        assert f"stage {stage} is up" in text
        assert ("cbs mesh status" in text) is (stage != "plain")
        assert ("cbs verify" in text) is (stage == "confidential")
        if stage == "mesh":
            asked = subprocess.run(
                [*CBS, "mesh", "status", str(run_dir / "mesh")], capture_output=True, text=True, check=True, timeout=30
            )
            assert key_of("bookstore") in asked.stdout
        up.send_signal(signal.SIGTERM)
        assert up.wait(30) == 0
    finally:
        up.kill()
        up.communicate()


async def test_the_host_allows_the_thief_and_takes_it_back(meshed):
    system, mesh = meshed()
    async with system:
        await until(system, lambda seen: seen.refused_by_mesh(THIEF, key_of("bookstore")) and trading.traded(seen)[0])
        assert trading.stolen(await system.observe()) == 0
        await mesh.replace("traffic-access-v1.yaml", "traffic-access-v1-allow-bookthief.yaml")
        await until(system, trading.robbed)
        (mesh.policy / "traffic-access-v1.yaml").unlink()  # nobody may
        await until(system, lambda seen: seen.refused_by_mesh("bookbuyer.bookbuyer", key_of("bookstore")))
        before = trading.stolen(await system.observe())
        await asyncio.sleep(1)
        assert trading.stolen(await system.observe()) == before


async def test_the_control_plane_is_killed_and_calls_go_on_under_the_same_policy(meshed):
    system, mesh = meshed()
    async with system:
        await until(system, lambda seen: trading.traded(seen)[0] > 5)
        sidecars = {key: each["pid"] for key, each in mesh.state()["sidecars"].items()}
        os.kill(system.supervisor.pid("mesh"), signal.SIGKILL)
        before = await system.observe()
        assert all(psutil.pid_exists(pid) for pid in sidecars.values())
        await until(system, lambda seen: trading.traded_since(before, seen)[0] > 5)
        await until(system, lambda seen: seen.mesh["sidecars"].keys() == sidecars.keys())
        for _ in range(200):
            state = mesh.state()
            pids = {key: each["pid"] for key, each in state["sidecars"].items()}
            if state["version"] and all(each["ready"] for each in state["sidecars"].values()) and pids != sidecars:
                break
            await asyncio.sleep(0.1)
        assert not any(psutil.pid_exists(pid) for pid in sidecars.values())  # the next one has taken over
        before = await system.observe()
        await until(system, lambda seen: trading.traded_since(before, seen)[0] > 5)
        now = await system.observe()
        assert trading.stolen(now) == 0
        assert now.counter("bookthief", "attempts") > 0


async def test_a_broken_policy_changes_nothing_and_is_shown(meshed):
    system, mesh = meshed()
    async with system:
        await until(system, lambda seen: trading.traded(seen)[0] > 3)
        version = mesh.state()["version"]
        text = (VARIANTS / "permissive.yaml").read_text()
        (mesh.policy / "permissive.yaml").write_text(text.replace("true", "perhaps"))
        await until(system, lambda seen: seen.mesh.get("error") is not None)
        assert "permissive.yaml" in mesh.state()["error"]["message"]
        assert (mesh.state()["version"], mesh.state()["permissive"]) == (version, False)
        before = await system.observe()
        await until(system, lambda seen: trading.traded_since(before, seen)[0] > 3)
        assert trading.stolen(await system.observe()) == 0


async def test_permissive_mode_opens_every_door_but_not_to_those_outside_of_the_mesh(meshed, network):
    system, mesh = meshed(permissive=True)
    async with system:
        await until(system, trading.robbed)
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await Plaintext(f"{system.topology.host('bookstore')}:15003").steal()
        assert mesh.state()["permissive"] is True


async def test_marbles_behind_sidecars_survive_the_loss_of_each(system, envoy):
    """What is attested and sealed passes through; a sidecar that is killed costs a retry."""
    running = system(sidecars=True, bookbuyer={"CBS_BUY_INTERVAL": "0.1"})
    async with running:
        before = await bought(running, more_than=3)
        seen = await running.observe()
        assert seen.attested() == MARBLES
        for sidecar in seen.mesh["sidecars"].values():
            os.kill(sidecar["pid"], signal.SIGKILL)
        await bought(running, more_than=before + 10)
        tried = await thefts(running.topology.address("bookthief"))
        assert sum(method.tried for method in tried) == sum(method.refused for method in tried) > 0
