"""The original demo's walkthrough, step by step, with the counters that it promises; and where ours is to differ.

In the original the mesh decides who buys. Here, in stage `confidential`, it decides who connects; who buys is decided
inside the marbles, by the manifest. In stage `mesh` it is as in the original.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from walking import BOUGHT, FROM_V1, FROM_V2, SETTINGS, SOLD, SOLD_V2, STOLEN, Walk, cbs

from confidential_bookstore.marble.coordinator_trust import verify_coordinator
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.effective import effective_manifest
from confidential_bookstore.owner.policy_update import to_bytes
from confidential_bookstore.owner.user import read_user
from demo.mesh import Mesh
from demo.ordinary import OrdinarySystem
from demo.stages import Stage
from demo.stories.mesh import THIEF
from demo.system import System
from demo.topology import MARBLES, Topology
from demo.workspace import Workspace

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ATTESTED, PLAIN = "attested marble", "plaintext"
BUYER, STORE = "bookbuyer.bookbuyer", "bookstore.bookstore"
ACCESS = ("bookstore-v2.yaml", "traffic-access-v1.yaml", "bookwarehouse-access.yaml", "marblerun-access.yaml")
ROUTES = "bookstore-routes.yaml"
WITHIN_SECONDS = 1.0  # after the update, a grant that was taken back is of no use


@pytest.fixture
def contexts(tmp_path: Path) -> Path:
    """Of the data owner."""
    return Workspace(tmp_path).owner.contexts


async def test_the_walkthrough_with_marbles(built, tmp_path, network, envoy, contexts):
    workspace, topology = Workspace(tmp_path), Topology(network, tmp_path / "state", SETTINGS, sidecars=True)
    mesh = Mesh(workspace.mesh, topology, Stage.CONFIDENTIAL, permissive=True)
    async with System(workspace, topology, built.platform, built.enclaves, mesh=mesh) as system:
        walk = Walk(system, mesh)
        await steps_1_to_3_everything_up_in_permissive_mode(walk)
        await step_4_permissive_mode_off(walk)
        await step_5_restart_bookthief(walk)
        await step_6_marblerun_access(walk)
        await step_7_bookwarehouse_access(walk)
        await step_8_traffic_access_v1(walk, ATTESTED)
        await step_9_the_host_allows_bookthief(walk)
        await step_10_bookstore_v2(walk)
        await step_11_split(walk, contexts)
        await at_last_the_owner_grants_it_and_takes_it_back(walk, contexts)


async def test_the_walkthrough_without_marbles(tmp_path, network, envoy):
    workspace = Workspace(tmp_path).ordinary(Stage.MESH)
    topology = Topology(network, workspace.state, SETTINGS, sidecars=True)
    mesh = Mesh(tmp_path / "mesh", topology, Stage.MESH, permissive=True)
    async with OrdinarySystem(workspace, topology, mesh=mesh) as system:
        walk = Walk(system, mesh)
        await steps_1_to_3_the_thief_steals_in_permissive_mode(walk)
        await step_4_permissive_mode_off(walk)
        await step_7_bookwarehouse_access(walk)
        await step_8_traffic_access_v1(walk, PLAIN)
        await step_9_the_thief_rises_and_v1_again_stops_it(walk)
        await step_10_bookstore_v2(walk)
        await step_11_split_at_the_sidecar(walk)


async def steps_1_to_3_everything_up_in_permissive_mode(walk: Walk) -> None:
    """The original's thief rises here, too. Ours is refused, though every sidecar lets everybody in."""
    await walk.host_applies(take_away=(*ACCESS, ROUTES))  # nobody has been granted anything
    seen = await walk.rise(BOUGHT, SOLD)
    assert seen.attested() == MARBLES
    assert seen.mesh["permissive"] is True
    await walk.thief_is_told("(rule: deny-by-default)", ATTESTED)
    assert await walk.refused(THIEF, "bookstore") == await walk.refused(THIEF, "coordinator") == 0
    assert await walk.count(STOLEN) == 0


async def steps_1_to_3_the_thief_steals_in_permissive_mode(walk: Walk) -> None:
    await walk.host_applies(take_away=(*ACCESS, ROUTES))
    seen = await walk.rise(BOUGHT, SOLD, STOLEN)
    assert seen.mesh["permissive"] is True


async def step_4_permissive_mode_off(walk: Walk) -> None:
    await walk.host_applies(take_away=("permissive.yaml",))
    await walk.is_refused_again(THIEF, "bookstore")
    await walk.is_refused_again(BUYER, "bookstore")
    await walk.is_refused_again(STORE, "bookwarehouse")
    await walk.stand_still(BOUGHT, SOLD, SOLD_V2, STOLEN, ("bookwarehouse", "books_sold"))


async def step_5_restart_bookthief(walk: Walk) -> None:
    """The mesh gates attestation: what cannot reach the coordinator does not become a marble."""
    supervisor, before = walk.system.supervisor, (await walk.look()).latest_activation("bookthief")
    assert before is not None
    os.kill(supervisor.pid("bookthief"), signal.SIGTERM)
    await walk.until(lambda seen: supervisor.restarts("bookthief") == 1 and seen.ready(["bookthief"]), "it is back")
    await walk.thief_is_told("no TLS with the coordinator", ATTESTED)
    await walk.is_refused_again(THIEF, "coordinator")
    assert (await walk.look()).latest_activation("bookthief") == before


async def step_6_marblerun_access(walk: Walk) -> None:
    before = (await walk.look()).latest_activation("bookthief")
    await walk.host_applies("marblerun-access.yaml")
    await walk.until(lambda seen: seen.latest_activation("bookthief") != before, "the thief is attested")
    await walk.thief_stays_out(ATTESTED)
    assert await walk.count(STOLEN) == 0


async def step_7_bookwarehouse_access(walk: Walk) -> None:
    before = await walk.count(BOUGHT)
    await walk.host_applies("bookwarehouse-access.yaml")
    await walk.is_refused_again(THIEF, "bookstore")
    await walk.is_refused_again(BUYER, "bookstore")
    assert await walk.count(BOUGHT) == before


async def step_8_traffic_access_v1(walk: Walk, method: str) -> None:
    await walk.host_applies(ROUTES, "traffic-access-v1.yaml")
    await walk.rise(BOUGHT, SOLD)
    await walk.thief_stays_out(method)


async def step_9_the_host_allows_bookthief(walk: Walk) -> None:
    """The original's thief rises. Ours comes as far as the store, which has another policy: the owner's."""
    await walk.host_applies(traffic_access_v1="traffic-access-v1-allow-bookthief.yaml")
    await walk.rise(("bookstore", "refusals_total"))
    await walk.thief_is_told("(rule: deny-by-default)", ATTESTED, times=5)
    assert await walk.count(STOLEN) == 0
    await walk.host_applies("traffic-access-v1.yaml")
    await walk.thief_stays_out(ATTESTED)
    assert await walk.count(STOLEN) == 0
    await walk.rise(BOUGHT, SOLD)


async def step_9_the_thief_rises_and_v1_again_stops_it(walk: Walk) -> None:
    await walk.host_applies(traffic_access_v1="traffic-access-v1-allow-bookthief.yaml")
    await walk.rise(BOUGHT, SOLD, STOLEN)
    await walk.host_applies("traffic-access-v1.yaml")
    await walk.thief_stays_out(PLAIN)
    await walk.rise(BOUGHT, SOLD)


async def step_10_bookstore_v2(walk: Walk) -> None:
    await walk.host_applies("bookstore-v2.yaml")
    seen = await walk.rise(BOUGHT, SOLD)
    assert seen.ready(["bookstore-v2"])
    assert seen.counter(*SOLD_V2) == seen.counter(*FROM_V2) == 0


async def step_11_split(walk: Walk, contexts: Path) -> None:
    """By the owner's update of the manifest; who steers the calls is the attested caller."""
    processes = {name: walk.system.supervisor.pid(name) for name in MARBLES}

    async def split(first: int, second: int) -> None:
        await cbs(contexts, "split", str(first), str(second), "--layer", "marbles")

    await split(100, 0)
    assert await walk.shares(50) == (1, 0)
    await split(50, 50)
    await walk.rise(FROM_V2)
    assert await walk.shares() == pytest.approx((0.5, 0.5), abs=0.05)
    await split(0, 100)
    await walk.stand_still(SOLD)
    assert await walk.shares() == (0, 1)
    assert {name: walk.system.supervisor.pid(name) for name in MARBLES} == processes


async def step_11_split_at_the_sidecar(walk: Walk) -> None:
    """The caller has one connection to its sidecar; each call on it is one of the split's."""
    await walk.host_applies(traffic_split="traffic-split-v1.yaml")
    assert await walk.shares(50) == (1, 0)
    await walk.host_applies(traffic_split="traffic-split-50-50.yaml")
    await walk.rise(FROM_V2)
    assert await walk.shares() == pytest.approx((0.5, 0.5), abs=0.05)
    await walk.host_applies(traffic_split="traffic-split-v2.yaml")
    await walk.stand_still(SOLD)
    assert await walk.shares() == (0, 1)


async def at_last_the_owner_grants_it_and_takes_it_back(walk: Walk, contexts: Path) -> None:
    """That policy alone has kept the thief out: with a grant in the manifest it buys like anybody."""
    assert isinstance(walk.system, System)
    log = walk.system.workspace.logs / "bookbuyer.log"
    await cbs(contexts, "split", "50", "50", "--layer", "marbles")
    await walk.rise(FROM_V1, FROM_V2)
    await walk.host_applies(traffic_access_v1="traffic-access-v1-allow-bookthief.yaml")
    owner = await owner_of(walk.system, contexts.parent)
    before = effective_manifest(owner.manifest(), owner.update_log())
    assert await walk.count(STOLEN) == 0
    await cbs(contexts, "policy", "allow", "bookthief", "bookstore", "--layer", "marbles")
    await walk.rise(STOLEN)
    position = log.stat().st_size
    await asyncio.to_thread(owner.update, to_bytes(before))
    updated = time.monotonic()
    assert await last_theft(walk, updated) <= updated + WITHIN_SECONDS
    await walk.thief_is_told("(rule: deny-by-default)", ATTESTED)
    stolen = await walk.count(STOLEN)
    await walk.rise(FROM_V1, FROM_V2, by=50)
    assert await walk.count(STOLEN) == stolen
    assert (await walk.look()).counter("bookbuyer", "purchases_refused") == 0
    assert b"purchase." not in log.read_bytes()[position:]  # no attempt of the buyer's was refused, or cut short


async def last_theft(walk: Walk, since: float) -> float:
    """When its counter was last seen to rise, watched for twice as long as it may."""
    stolen, rose = await walk.count(STOLEN), since
    while time.monotonic() < since + 2 * WITHIN_SECONDS:
        if (count := await walk.count(STOLEN)) > stolen:
            stolen, rose = count, time.monotonic()
        await asyncio.sleep(0.02)
    return rose


async def owner_of(system: System, files: Path) -> CoordinatorApi:
    """The data owner, who may update the manifest."""
    verified = await verify_coordinator(system.topology.client_address, system.coordinator_trust())
    user = read_user((files / "user.pem").read_bytes(), (files / "user-key.pem").read_bytes())
    return CoordinatorApi(Connection(system.topology.client_address, verified.root, user=user))
