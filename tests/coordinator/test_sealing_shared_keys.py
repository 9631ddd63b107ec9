"""The key of a shared state: made once, kept per machine under the right policy, and asked for when it is missing."""

from __future__ import annotations

import dataclasses

import pytest
from coordinators import COORDINATOR

from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import StateConflict
from confidential_bookstore.secret import Secret
from coordinator.manifest.config import SealMode
from coordinator.recovery.data_key import DataKey
from coordinator.sealing.directory import DirectoryStore
from coordinator.sealing.format import key_info
from coordinator.sealing.keys import PlatformKeys
from coordinator.sealing.sealed_state import ROOT_CERTIFICATE, Locked, SealedState, Unsealed
from coordinator.sealing.shared_keys import SharedKey, SharedKeys, node_of

KEY = DataKey(Secret(bytes(range(32))))
RECORDS = {"state": b"3", ROOT_CERTIFICATE: b"root"}
NEWER = RECORDS | {"state": b"4"}
PRODUCT, UNIQUE = SealMode.PRODUCT_KEY, SealMode.UNIQUE_KEY


@pytest.fixture(scope="session")
def machines():
    return [SimulatedPlatform.create() for _ in range(3)]


@pytest.fixture
def coordinator_on(machines, tmp_path):
    """A coordinator on the machine with this number: its keys and its view of the shared state."""

    def starting(number, ask=None, **changes):
        counters = SimulatedPlatform.create().counters
        machine = dataclasses.replace(machines[number], counters=counters)
        platform = InProcessPlatform(machine, dataclasses.replace(COORDINATOR, **changes))
        store = DirectoryStore(tmp_path)
        keys = SharedKeys.of(platform, store, ask)
        return keys, SealedState(store, keys, platform.raise_counter)

    return starting


def key_of(keys):
    return keys.current.key


def node_keys(folder):
    return {path.name: path.read_bytes() for path in folder.glob("node_key.*")}


@pytest.mark.parametrize("mode", [PRODUCT, UNIQUE])
def test_the_first_coordinator_makes_the_key_and_keeps_it_for_its_machine(coordinator_on, tmp_path, mode):
    keys, sealed = coordinator_on(0)
    assert keys.current is None
    sealed.store(RECORDS, KEY, mode)
    assert key_info((tmp_path / "sealed_key").read_bytes()) == mode.value.encode()
    again, sealed = coordinator_on(0)
    assert sealed.load() == Unsealed(RECORDS, KEY)
    assert again.current == keys.current
    assert again.current.policy is SealPolicy(mode.value)
    sealed.store(NEWER, KEY, mode)
    assert again.current == keys.current
    assert len(node_keys(tmp_path)) == 1


@pytest.mark.parametrize("mode", [PRODUCT, UNIQUE])
def test_another_version_on_the_machine(coordinator_on, mode):
    coordinator_on(0)[1].store(RECORDS, KEY, mode)
    loaded = coordinator_on(0, mr_enclave=b"N" * 32, security_version=2)[1].load()
    assert isinstance(loaded, Unsealed if mode is PRODUCT else Locked)


def test_another_machine_asks(coordinator_on, tmp_path):
    first, sealed = coordinator_on(0)
    sealed.store(RECORDS, KEY, PRODUCT)
    asked = []

    def ask():
        for key in (Secret(b"of another state".ljust(32)), key_of(first), Secret(b"never".ljust(32))):
            asked.append(key)
            yield key

    second, sealed = coordinator_on(1, ask)
    assert sealed.load() == Unsealed(RECORDS, KEY)
    assert second.current == first.current
    assert len(asked) == 2
    assert len(node_keys(tmp_path)) == 2
    assert isinstance(coordinator_on(1)[1].load(), Unsealed)
    assert isinstance(coordinator_on(2)[1].load(), Locked)


def test_a_machine_that_has_the_key_asks_nobody(coordinator_on):
    coordinator_on(0)[1].store(RECORDS, KEY, PRODUCT)

    def ask():
        pytest.fail("asked")

    assert isinstance(coordinator_on(0, ask)[1].load(), Unsealed)


def test_a_key_may_come_later(coordinator_on):
    first, sealed = coordinator_on(0)
    sealed.store(RECORDS, KEY, PRODUCT)
    answers = [[], [Secret(b"wrong".ljust(32))], [key_of(first)]]
    _, sealed = coordinator_on(1, lambda: answers.pop(0))
    for _ in range(2):
        locked = sealed.load()
        assert isinstance(locked, Locked)
        assert "handed" in locked.reason
        assert sealed.changed()
    assert isinstance(sealed.load(), Unsealed)
    assert not sealed.changed()
    _, alone = coordinator_on(2)
    assert isinstance(alone.load(), Locked)
    assert not alone.changed()


def test_another_policy_has_another_key(coordinator_on, tmp_path):
    """Under UniqueKey, no other version may have read it before."""
    first, sealed = coordinator_on(0)
    sealed.store(RECORDS, KEY, PRODUCT)
    before = first.current
    second, other = coordinator_on(1, lambda: [key_of(first)])
    other.load()
    sealed.store(NEWER, KEY, UNIQUE)
    assert first.current.policy is SealPolicy.UNIQUE_KEY
    assert first.current.key != before.key
    assert isinstance(coordinator_on(0)[1].load(), Unsealed)
    assert isinstance(coordinator_on(0, mr_enclave=b"N" * 32)[1].load(), Locked)
    assert other.changed()
    assert other.load() == Unsealed(NEWER, KEY)
    assert second.current == first.current


def test_a_change_of_policy_that_is_cut_off_loses_nothing(coordinator_on, monkeypatch):
    _, sealed = coordinator_on(0)
    sealed.store(RECORDS, KEY, PRODUCT)

    def lost(*_, **__):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(DirectoryStore, "replace", lost)
        with pytest.raises(OSError, match="Input"):
            sealed.store(NEWER, KEY, UNIQUE)
    assert coordinator_on(0)[1].load() == Unsealed(RECORDS, KEY)
    sealed.store(NEWER, KEY, UNIQUE)
    assert coordinator_on(0)[1].load() == Unsealed(NEWER, KEY)


def test_the_policy_cannot_be_relabelled(coordinator_on, tmp_path):
    """Or a host could have the key of a UniqueKey state kept for other versions."""
    first, sealed = coordinator_on(0)
    sealed.store(RECORDS, KEY, UNIQUE)
    content = (tmp_path / "sealed_key").read_bytes()
    (tmp_path / "sealed_key").write_bytes(b"\x0a\0\0\0ProductKey" + content[4 + len(b"UniqueKey") :])
    keys, sealed = coordinator_on(1, lambda: [key_of(first)])
    assert isinstance(sealed.load(), Locked)
    assert keys.current is None
    assert len(node_keys(tmp_path)) == 1


def test_two_that_begin_at_the_same_time_end_with_one_key(coordinator_on):
    first, sealed = coordinator_on(0)
    second, other = coordinator_on(1, lambda: [key_of(first)])
    for one in (sealed, other):
        assert one.load() is None
    sealed.store(RECORDS, KEY, PRODUCT)
    with pytest.raises(StateConflict):
        other.store(NEWER, KEY, PRODUCT)
    assert isinstance(other.load(), Unsealed)
    assert second.current == first.current
    for number in (0, 1):
        assert isinstance(coordinator_on(number)[1].load(), Unsealed)


def test_the_state_of_a_single_coordinator_becomes_shared(coordinator_on, machines, tmp_path):
    single = PlatformKeys.of(InProcessPlatform(machines[0], COORDINATOR))
    SealedState(DirectoryStore(tmp_path), single, None).store(RECORDS, KEY, PRODUCT)
    keys, sealed = coordinator_on(0)
    assert sealed.load() == Unsealed(RECORDS, KEY)
    assert keys.current is None
    sealed.store(RECORDS, KEY, PRODUCT)
    assert isinstance(coordinator_on(1, lambda: [key_of(keys)])[1].load(), Unsealed)


@pytest.mark.parametrize("content", [b"", b"\0" * 100])
def test_a_damaged_node_key_counts_as_missing(coordinator_on, tmp_path, content):
    first, sealed = coordinator_on(0)
    sealed.store(RECORDS, KEY, PRODUCT)
    (name,) = node_keys(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert isinstance(coordinator_on(0)[1].load(), Locked)
    assert isinstance(coordinator_on(0, lambda: [key_of(first)])[1].load(), Unsealed)
    assert isinstance(coordinator_on(0)[1].load(), Unsealed)


def test_arbitrary_key_files_are_refused(coordinator_on):
    keys, _ = coordinator_on(0, lambda: pytest.fail("asked"))
    for content in (b"", b"\0" * 32, b"\4\0\0\0None" + bytes(60)):
        assert keys.unseal(content, b"data") is None


def test_nothing_secret_is_printed_and_machines_have_distinct_names():
    key = Secret(b"secret key".ljust(32))
    assert "secret" not in repr(SharedKey(key, SealPolicy.PRODUCT_KEY))
    assert node_of(key) != node_of(Secret(b"other".ljust(32)))
    assert len(node_of(key)) == 64
