"""One coordinator among several: what it takes up from the others, what it refuses, and what it never writes over."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt

import pytest
import structlog
from coordinators import COORDINATOR, client_of, manifest, set_manifest

from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import RollbackDetected, SealedStateError, StateConflict, StoreUnavailable
from confidential_bookstore.secret import Secret
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import LiveDeployment, load_or_begin
from coordinator.deployment.state import ACTIVATIONS, Phase
from coordinator.manifest.config import SealMode
from coordinator.pki.authority import Authority
from coordinator.recovery.data_key import DataKey
from coordinator.sealing.directory import DATA_FILE, KEY_FILE, NODE_KEY, OLD, DirectoryStore
from coordinator.sealing.sealed_state import ROOT_CERTIFICATE, Locked, SealedState, Unsealed
from coordinator.sealing.shared_keys import SharedKeys
from coordinator.settings import SharedStateSettings

NOW = dt.datetime.now(dt.UTC)
KEY = DataKey(Secret(bytes(range(32))))
RECORDS = {"state": b"2", ROOT_CERTIFICATE: b"root"}
NEWER = RECORDS | {"state": b"3"}
PRODUCT, UNIQUE = SealMode.PRODUCT_KEY, SealMode.UNIQUE_KEY
NEW_VERSION = dataclasses.replace(COORDINATOR, mr_enclave=b"N" * 32, security_version=2)


class Overtaken(DirectoryStore):
    """Somebody writes between a read and whatever comes next."""

    meanwhile = None

    def read(self):
        pair = super().read()
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            meanwhile()
        return pair


@pytest.fixture
def coordinator_on(machine, tmp_path):
    """A coordinator's view of the shared state, on the first machine or on one with another fuse key."""
    machines = [
        dataclasses.replace(
            machine, fuse_key=Secret(bytes([number]) * 32), counters=SimulatedPlatform.create().counters
        )
        for number in range(2)
    ]

    def opening(number=0, *, identity=COORDINATOR, store=DirectoryStore, ask=list):
        platform = InProcessPlatform(machines[number], identity)
        opened = store(tmp_path)
        keys = SharedKeys.of(platform, opened, ask)
        return opened, keys, SealedState(opened, keys, platform.raise_counter)

    return opening


def test_a_read_that_was_overtaken_on_this_machine_is_no_rollback(coordinator_on, tmp_path):
    _, _, first = coordinator_on()
    first.store(RECORDS, KEY, PRODUCT)
    store, _, second = coordinator_on(store=Overtaken)
    store.meanwhile = lambda: first.store(NEWER, KEY, PRODUCT)
    assert second.load() == Unsealed(NEWER, KEY)
    second.store(RECORDS, KEY, PRODUCT)
    old = {path: path.read_bytes() for path in (tmp_path / DATA_FILE, tmp_path / KEY_FILE)}
    second.store(NEWER, KEY, PRODUCT)
    for path, content in old.items():
        path.write_bytes(content)
    with pytest.raises(RollbackDetected):
        coordinator_on()[2].load()


def test_a_change_that_cannot_be_unsealed_is_never_written_over(coordinator_on, tmp_path):
    """As when the manifest binds the state to the code of another version during a rolling upgrade."""
    _, _, old = coordinator_on()
    old.store(RECORDS, KEY, PRODUCT)
    _, keys, new = coordinator_on(identity=NEW_VERSION)
    new.load()
    new.store(NEWER, KEY, UNIQUE)
    written = (tmp_path / DATA_FILE).read_bytes()
    for _ in range(2):
        assert old.changed()
        with pytest.raises(SealedStateError, match="cannot be unsealed"):
            old.load()
        with pytest.raises(StateConflict):
            old.store(RECORDS, KEY, PRODUCT)
    assert (tmp_path / DATA_FILE).read_bytes() == written
    assert not (tmp_path / (DATA_FILE + OLD)).exists()
    assert keys.current is not None
    new.store(RECORDS, KEY, PRODUCT)
    assert old.load() == Unsealed(RECORDS, KEY)


def test_another_deployment_is_neither_taken_up_nor_written_over(coordinator_on, tmp_path):
    """As when a coordinator on a new machine, which found nobody to ask, was given a new manifest."""
    _, _, running = coordinator_on()
    running.store(RECORDS, KEY, PRODUCT)
    _, keys, alone = coordinator_on(1)
    assert isinstance(alone.load(), Locked)
    other = NEWER | {ROOT_CERTIFICATE: b"other root"}
    alone.store(other, DataKey(Secret(b"k" * 32)), PRODUCT)
    running._keys._ask = lambda: [keys.current.key]
    for _ in range(2):
        with pytest.raises(SealedStateError, match="another deployment"):
            running.load()
        with pytest.raises(StateConflict):
            running.store(NEWER, KEY, PRODUCT)
    for name in (DATA_FILE, KEY_FILE):
        (tmp_path / (name + OLD)).replace(tmp_path / name)
    assert running.load() == Unsealed(RECORDS, KEY)


def test_a_store_that_was_emptied_is_filled_again(coordinator_on, tmp_path):
    _, _, running = coordinator_on()
    running.store(RECORDS, KEY, PRODUCT)
    for path in tmp_path.iterdir():
        path.unlink()
    assert running.changed()
    assert running.load() is None
    assert not running.changed()
    running.store(NEWER, KEY, PRODUCT)
    assert coordinator_on()[2].load() == Unsealed(NEWER, KEY)


def new_authority() -> Authority:
    return Authority.create(dns_names=["localhost"], now=NOW)


def live_on(sealed: SealedState) -> LiveDeployment:
    deployment, recovering = load_or_begin(sealed, new_authority)
    return LiveDeployment(deployment, sealed, recovering=recovering)


def accept(deployment: Deployment):
    return deployment.accept_manifest(manifest(), NOW)


async def test_what_was_taken_up_is_announced_also_if_the_change_fails_then(coordinator_on):
    mine, other = (live_on(coordinator_on()[2]) for _ in range(2))
    announced = []
    mine.subscribe(announced.append)
    await other.change(accept)
    with pytest.raises(SealedStateError, match="not today"):
        await mine.change(_refused_after(accept))
    assert mine.current.manifest == other.current.manifest
    assert announced == [mine.current]
    await mine.refresh()
    assert announced == [mine.current]


def _refused_after(step):
    """The first attempt is made on an old state, the second one is refused."""
    attempts = []

    def refusing(deployment: Deployment):
        attempts.append(deployment)
        if len(attempts) > 1:
            raise SealedStateError("not today")
        return step(deployment)

    return refusing


def activated_once(deployment: Deployment):
    state = deployment.state.change({ACTIVATIONS + "limited": b"1"})
    return dataclasses.replace(deployment, state=state), None


async def test_a_recovery_goes_on_with_what_others_have_sealed_meanwhile(coordinator_on):
    """Not with what was sealed when it began: nobody's change is undone."""
    running = live_on(coordinator_on()[2])
    await running.change(accept)
    waiting = live_on(coordinator_on(1)[2])
    announced = []
    waiting.subscribe(announced.append)
    assert waiting.current.state.phase is Phase.RECOVERY
    await running.change(activated_once)
    await waiting.refresh()
    assert announced == []
    assert (await waiting.recover(running.current.data_key.key.reveal(), b"")).remaining == 0
    assert waiting.current.state.activations == {"limited": 1}
    assert announced == [waiting.current]
    assert waiting.recovering is None


async def test_a_key_that_comes_later_ends_the_recovery(coordinator_on):
    handed = []
    _, keys, sealed = coordinator_on()
    running = live_on(sealed)
    waiting = live_on(coordinator_on(1, ask=lambda: handed)[2])
    temporary = waiting.current.authority.root
    await waiting.refresh()
    assert waiting.current.authority.root == temporary
    handed.append(keys.current.key)
    await waiting.refresh()
    assert waiting.current.authority.root == running.current.authority.root
    assert waiting.recovering is None
    await waiting.change(accept)
    await running.refresh()
    assert running.current.manifest == waiting.current.manifest


async def test_a_store_that_is_away_is_reported_once(coordinator_on):
    class Away(DirectoryStore):
        away = False

        def version(self):
            if self.away:
                raise StoreUnavailable("away")
            return super().version()

    store, _, sealed = coordinator_on(store=Away)
    live = live_on(sealed)
    with structlog.testing.capture_logs() as logs:
        following = asyncio.create_task(live.follow(0.01))
        for away in (True, False, True, False):
            store.away = away
            await asyncio.sleep(0.1)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    away, back = "shared state cannot be read", "shared state can be read again"
    assert [line["event"] for line in logs] == [away, back, away, back]


async def test_the_state_of_a_single_coordinator_becomes_shared_at_once(start, settings):
    async with start() as single:
        await set_manifest(single, manifest())
        assert not list(settings.seal_directory.glob(NODE_KEY + "*"))
    shared = SharedStateSettings(key_address=("127.0.0.1", 0))
    async with start({"shared": shared}) as running, client_of(running) as client:
        assert (await client.data("/api/v2/status"))["code"] == 3
        assert len(list(settings.seal_directory.glob(NODE_KEY + "*"))) == 1
        async with start({"shared": shared}) as another, client_of(another) as other:
            assert (await other.data("/api/v2/quote"))["cert"] == (await client.data("/api/v2/quote"))["cert"]
