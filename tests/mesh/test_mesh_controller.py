"""The control plane with real Envoys: what is in force, what is not taken, and what happens when processes die."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from controller_world import BUYER, SALES, STORE, THIEF, Load, MeshWorld, buy, seconds_until

from confidential_bookstore.errors import PolicyError, UpdateRejected
from mesh.envoy_process import end_left_over, envoy_path

OPEN_IN_OSM = """
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: t, namespace: bookstore}
spec:
  destination: {kind: ServiceAccount, name: bookstore, namespace: bookstore}
  sources: []
  rules: [{kind: TCPRoute, name: bookstore-service-port}]
"""
pytestmark = pytest.mark.usefixtures("envoy")


@pytest.fixture
def world(tmp_path, pytestconfig) -> MeshWorld:
    return MeshWorld(tmp_path, pytestconfig.rootpath)


def all_ready(mesh) -> bool:
    return len(mesh.sidecars) == 3 and all(sidecar.ready for sidecar in mesh.sidecars.values())


@pytest.mark.parametrize(
    ("seal", "refused", "layer"), [(False, "PERMISSION_DENIED", "L7"), (True, "UNAVAILABLE", "L4")]
)
async def test_policy_is_enforced_and_refusals_are_told(world, seal, refused, layer):
    async with world.store(), world.controller(seal=seal) as mesh:
        await seconds_until(lambda: all_ready(mesh))
        async with world.caller(BUYER) as buyer, world.caller(THIEF) as thief:
            assert await buy(buyer) == "OK"
            assert await buy(buyer, SALES) == ("OK" if seal else "PERMISSION_DENIED")  # bytes have no method
            assert await buy(thief) == refused
        await seconds_until(lambda: any("bookthief" in each.source for each in world.heard.refusals))
    told = next(each for each in world.heard.refusals if "bookthief" in each.source)
    assert (told.source, told.destination) == ("bookthief.bookthief.cluster.local", STORE)
    assert (told.layer, told.rule) == (layer, "deny-by-default")
    assert told.near.startswith("traffic-access-v1.yaml:")
    state = json.loads((world.folder / "state.json").read_text())
    assert [row["count"] for row in state["refusals"] if "bookthief" in row["source"]]


@pytest.mark.parametrize("seal", [False, True])
async def test_a_revocation_reaches_open_connections_within_a_second_and_disturbs_nobody(world, seal):
    async with world.store(), world.controller(seal=seal) as mesh:
        await seconds_until(lambda: all_ready(mesh))
        async with world.caller(BUYER) as buyer, world.caller(THIEF) as thief, Load(buyer) as load:
            for _ in range(3):
                world.let_in_thief()
                await seconds_until(lambda: _is(thief, "OK"))
                world.shut_out_thief()
                assert await seconds_until(lambda: _is_not(thief, "OK")) < 1
            await asyncio.sleep(0.3)
    assert load.failures == []
    assert load.calls > 100


async def _is(channel, status: str) -> bool:
    return await buy(channel) == status


async def _is_not(channel, status: str) -> bool:
    return await buy(channel) != status


async def test_permissive_mode_is_on_until_it_is_off(world):
    async with world.store(), world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        async with world.caller(THIEF) as thief:
            world.put(world.project / "deploy/manifests/smi-variants/permissive.yaml", "permissive.yaml")
            await seconds_until(lambda: _is(thief, "OK"))
            await seconds_until(lambda: mesh.state()["permissive"])  # acknowledged a moment after it works
            (world.policy / "permissive.yaml").unlink()
            assert await seconds_until(lambda: _is_not(thief, "OK")) < 1


@pytest.mark.parametrize(
    "breaking", ["kind: TrafficTarget\nspec: {", OPEN_IN_OSM], ids=["half-written", "sources-empty"]
)
async def test_a_broken_policy_changes_nothing_and_is_shown(world, breaking):
    async with world.store(), world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        async with world.caller(BUYER) as buyer, world.caller(THIEF) as thief, Load(buyer) as load:
            (world.policy / "z.yaml").write_text(breaking)
            await seconds_until(lambda: mesh.state()["error"])
            assert "z.yaml" in mesh.state()["error"]["message"]
            assert isinstance(world.heard.errors[0], PolicyError)
            assert await buy(thief) == "PERMISSION_DENIED"
            (world.policy / "z.yaml").unlink()
            await seconds_until(lambda: mesh.state()["error"] is None)
        assert load.failures == []


async def test_a_policy_that_is_gone_means_nobody_and_a_folder_that_is_gone_changes_nothing(world):
    async with world.store(), world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        async with world.caller(BUYER) as buyer:
            assert await buy(buyer) == "OK"
            (world.policy / "traffic-access-v1.yaml").unlink()
            assert await seconds_until(lambda: _is(buyer, "PERMISSION_DENIED")) < 1
            world.shut_out_thief()
            await seconds_until(lambda: _is(buyer, "OK"))
            world.policy.rename(world.folder / "elsewhere")
            await seconds_until(lambda: mesh.state()["error"])
            assert await buy(buyer) == "OK"


async def test_nothing_opens_before_a_first_good_policy(world):
    (world.policy / "z.yaml").write_text("kind: [")
    async with world.store(), world.controller() as mesh:
        assert mesh.state()["version"] is None
        assert mesh.state()["error"] is not None
        assert mesh.sidecars == {}
        async with world.caller(BUYER) as buyer:
            assert await buy(buyer) == "UNAVAILABLE"
            (world.policy / "z.yaml").unlink()
            await seconds_until(lambda: _is(buyer, "OK"))


async def test_what_envoy_does_not_take_is_taken_back_everywhere(world):
    """The port of a new listener is taken, which only the sidecar itself can find out."""
    async with world.store(), world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        before = {key: sidecar.resources for key, sidecar in mesh.sidecars.items()}
        good = (world.folder / "layout.json").read_text()
        taken = await asyncio.start_server(lambda _r, w: w.close(), f"{world.network}.13", 16099)
        layout = json.loads(good)
        layout["services"][BUYER]["outbound"][THIEF] = f"{world.network}.13:16099"
        async with taken, world.caller(BUYER) as buyer, world.caller(THIEF) as thief, Load(buyer) as load:
            world.let_in_thief()
            (world.folder / "layout.json").write_text(json.dumps(layout))
            await seconds_until(lambda: any(isinstance(each, UpdateRejected) for each in world.heard.errors), within=20)
            (world.folder / "layout.json").write_text(good)
            world.shut_out_thief()
            await seconds_until(lambda: mesh.state()["error"] is None, within=20)
            assert {key: sidecar.resources for key, sidecar in mesh.sidecars.items()} == before
            assert await buy(thief) == "PERMISSION_DENIED"
        assert load.failures == []


@pytest.mark.parametrize(("seal", "out"), [(False, "PERMISSION_DENIED"), (True, "UNAVAILABLE")])
async def test_nobody_is_let_in_by_an_update_that_is_refused(world, seal, out):
    """Neither at first nor when it is tried again; and who was in before stays connected."""
    async with world.store(), world.controller(seal=seal) as mesh:
        await seconds_until(lambda: all_ready(mesh))
        layout = json.loads((world.folder / "layout.json").read_text())
        layout["services"][STORE]["outbound"][THIEF] = f"{world.network}.12:16099"
        taken = await asyncio.start_server(lambda _r, w: w.close(), f"{world.network}.12", 16099)
        async with taken, world.caller(BUYER) as buyer, world.caller(THIEF) as thief, Load(buyer, at_once=2) as load:
            seen = []
            world.let_in_thief()
            (world.folder / "layout.json").write_text(json.dumps(layout))

            async def refused() -> bool:
                seen.append(await buy(thief))
                return any(isinstance(each, UpdateRejected) for each in world.heard.errors)

            await seconds_until(refused, within=20)
            until = asyncio.get_running_loop().time() + 3  # it is tried again after two seconds
            while asyncio.get_running_loop().time() < until:
                seen.append(await buy(thief))
            assert set(seen) == {out}
        assert load.failures == []
        await seconds_until(lambda: mesh.state()["error"] is None, within=20)  # it is tried again: the port is free now
        async with world.caller(THIEF) as thief:
            assert await buy(thief) == "OK"


async def test_what_one_sidecar_refuses_is_taken_back_in_the_others(world):
    async with world.store(), world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        layout = json.loads((world.folder / "layout.json").read_text())
        layout["services"][STORE]["outbound"][THIEF] = f"{world.network}.12:16099"
        layout["services"][BUYER]["outbound"][THIEF] = f"{world.network}.13:16098"
        taken = await asyncio.start_server(lambda _r, w: w.close(), f"{world.network}.12", 16099)
        async with taken:
            (world.folder / "layout.json").write_text(json.dumps(layout))
            await seconds_until(lambda: mesh.state()["error"], within=20)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(f"{world.network}.13", 16098)


async def test_routes_that_nothing_names_any_longer_are_gone(world):
    """Or they would be there at once, as they were, when a later listener has their name."""
    async with world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        layout = json.loads((world.folder / "layout.json").read_text())
        files = {path.name for path in (world.folder / "run" / "bookbuyer.bookbuyer").glob("rds-outbound*")}
        assert len(files) == 1
        layout["services"][BUYER]["outbound"] = {}
        (world.folder / "layout.json").write_text(json.dumps(layout))
        await seconds_until(lambda: not list((world.folder / "run" / "bookbuyer.bookbuyer").glob("rds-outbound*")))
        assert mesh.state()["error"] is None


async def test_a_killed_envoy_comes_back_with_the_same_policy(world):
    async with world.store(), world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        async with world.caller(BUYER) as buyer, world.caller(THIEF) as thief:
            assert await buy(buyer) == "OK"
            os.kill(mesh.sidecars[STORE].pid, signal.SIGKILL)
            await seconds_until(lambda: mesh.sidecars[STORE].restarts == 1)
            await seconds_until(lambda: _is(buyer, "OK"))
            assert await buy(thief) == "PERMISSION_DENIED"
        assert mesh.state()["sidecars"][STORE]["restarts"] == 1


async def test_certificates_are_renewed_while_calls_go_on(world):
    lifetime = dt.timedelta(seconds=4)
    async with world.store(), world.controller(lifetime=lifetime) as mesh:
        await seconds_until(lambda: all_ready(mesh))
        first = mesh.certificates[STORE].not_after
        async with world.caller(BUYER) as buyer, Load(buyer, at_once=2) as load:
            await seconds_until(lambda: mesh.certificates[STORE].not_after > first + 5, within=20)
            async with world.caller(THIEF) as thief:  # a new connection, with new certificates
                assert await buy(thief) == "PERMISSION_DENIED"
        assert load.failures == []


RUN = """
import asyncio, sys
from pathlib import Path
from cli.mesh_run import Log, MeshStage, _run
from cli.output import OutputFormat
asyncio.run(_run(Path(sys.argv[1]), MeshStage.MESH, Log(OutputFormat.TEXT)))
"""


def start(world) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(world.folder)], cwd=world.project, stdout=subprocess.DEVNULL
    )


def pids(world) -> set[int]:
    return {int(path.read_text().split()[0]) for path in world.folder.glob("run/*/pid")}


async def test_sidecars_go_on_without_their_control_plane_and_the_next_one_takes_over(world):
    first = start(world)
    try:
        async with world.store(), world.caller(BUYER) as buyer, world.caller(THIEF) as thief:
            await seconds_until(lambda: _is(buyer, "OK"), within=15)
            await seconds_until(lambda: _is(thief, "PERMISSION_DENIED"), within=15)
            old = pids(world)
            first.kill()
            first.wait()
            world.let_in_thief()
            await asyncio.sleep(0.5)
            assert await buy(buyer) == "OK"
            assert await buy(thief) == "PERMISSION_DENIED"
            second = start(world)
            try:
                await seconds_until(lambda: _is(thief, "OK"), within=15)
                assert not old & pids(world)
                assert not [pid for pid in old if is_envoy(pid)]
            finally:
                second.terminate()
                assert second.wait(10) == 0
            assert pids(world) == set()
    finally:
        first.kill()
        first.wait()
        for folder in world.folder.glob("run/*/"):
            end_left_over(folder)


async def test_a_control_plane_that_starts_with_a_broken_policy_leaves_what_is_in_force(world):
    first = start(world)
    try:
        async with world.store(), world.caller(BUYER) as buyer, world.caller(THIEF) as thief:
            await seconds_until(lambda: _is(buyer, "OK"), within=15)
            await seconds_until(lambda: _is(thief, "PERMISSION_DENIED"), within=15)
            old = pids(world)
            first.kill()
            first.wait()
            world.let_in_thief()
            (world.policy / "z.yaml").write_text("kind: [\n")
            async with world.controller() as mesh:
                assert mesh.state()["error"]
                assert await buy(buyer) == "OK"
                assert await buy(thief) == "PERMISSION_DENIED"
                assert pids(world) == old
            assert not [pid for pid in old if is_envoy(pid)]  # an orderly end is one for all
    finally:
        first.kill()
        first.wait()
        for folder in world.folder.glob("run/*/"):
            end_left_over(folder)


def is_envoy(pid: int) -> bool:
    path = Path(f"/proc/{pid}/cmdline")
    return path.exists() and envoy_path().encode() in path.read_bytes()


async def test_no_key_is_left_for_others_to_read(world):
    async with world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        secret = [path for path in world.folder.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
        assert secret
        assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}
        assert not (world.folder / "run" / "validation.json").exists()


async def test_a_service_of_the_layout_that_goes_away_loses_its_sidecar(world):
    async with world.controller() as mesh:
        await seconds_until(lambda: all_ready(mesh))
        layout = json.loads((world.folder / "layout.json").read_text())
        del layout["services"][THIEF]
        (world.folder / "layout.json").write_text(json.dumps(layout))
        await seconds_until(lambda: sorted(mesh.sidecars) == [BUYER, STORE])
        await seconds_until(lambda: len(pids(world)) == 2)
