"""The sealed state: who can open it, in which cases it is locked, and that it never goes back."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from coordinators import COORDINATOR
from cryptography.hazmat.primitives.asymmetric import rsa

from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import (
    CounterUnavailable,
    PlatformError,
    RollbackDetected,
    SealedStateError,
    StateConflict,
    StoreUnavailable,
)
from confidential_bookstore.secret import Secret
from coordinator.manifest.config import SealMode
from coordinator.recovery.data_key import DataKey, new_data_key
from coordinator.sealing.directory import DATA_FILE, KEY_FILE, OLD, DirectoryStore
from coordinator.sealing.format import open_sealed_data, recovery_data_of, seal_records
from coordinator.sealing.keys import NoKeys, PlatformKeys, RawKeys
from coordinator.sealing.sealed_state import (
    ROOT_CERTIFICATE,
    STATE_VERSION,
    Locked,
    SealedState,
    Unsealed,
)

KEY = DataKey(Secret(bytes(range(32))))
ROOT = b"the root certificate"
FIRST, SECOND, THIRD = ({"state": b"3", "number": number, ROOT_CERTIFICATE: ROOT} for number in (b"1", b"2", b"3"))
MODE = SealMode.PRODUCT_KEY


@pytest.fixture
def platform(machine):
    """A machine of its own: counters outlive a test."""
    return InProcessPlatform(dataclasses.replace(machine, counters=SimulatedPlatform.create().counters), COORDINATOR)


@pytest.fixture
def sealed(platform, tmp_path):
    """A coordinator's view of one directory, opened anew by each call."""

    def opening(place=tmp_path, on=platform, **keys):
        return SealedState(DirectoryStore(place), keys.get("keys") or PlatformKeys.of(on), on.raise_counter)

    return opening


def files(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


def put(place, content):
    for path in place.iterdir():
        path.unlink()
    for name, data in content.items():
        (place / name).write_bytes(data)


def unsealed(state):
    loaded = state.load()
    assert isinstance(loaded, Unsealed)
    return loaded.records


def test_what_is_stored_is_loaded_again(sealed):
    key, _ = new_data_key({name: rsa.generate_private_key(65537, 2048).public_key() for name in "ab"}, 0)
    state = sealed()
    assert state.load() is None
    state.store(FIRST, key, MODE)
    state.store(SECOND, key, MODE)
    loaded = sealed().load()
    assert isinstance(loaded, Unsealed)
    assert (loaded.records, loaded.data_key) == (SECOND, key)
    assert ROOT_CERTIFICATE not in repr(loaded)


def test_the_recovery_data_stand_in_clear(sealed, tmp_path):
    key = dataclasses.replace(KEY, recovery_data=b'{"00":true}  ')
    sealed().store(FIRST, key, MODE)
    data = (tmp_path / DATA_FILE).read_bytes()
    assert recovery_data_of(data) == key.recovery_data
    assert open_sealed_data(data, key.key.reveal()) == FIRST | {STATE_VERSION: b"1"}


def test_each_write_has_a_number(sealed, tmp_path):
    state = sealed()
    for number in (b"1", b"2"):
        state.store(FIRST, KEY, MODE)
        assert open_sealed_data((tmp_path / DATA_FILE).read_bytes(), KEY.key.reveal())[STATE_VERSION] == number
    state = sealed()
    state.load()
    state.store(FIRST, KEY, MODE)
    assert open_sealed_data((tmp_path / DATA_FILE).read_bytes(), KEY.key.reveal())[STATE_VERSION] == b"3"


def test_disabled_writes_nothing(sealed, tmp_path):
    state = sealed()
    state.store(FIRST, KEY, MODE)
    before = files(tmp_path)
    state.store(SECOND, KEY, SealMode.DISABLED)
    assert files(tmp_path) == before
    assert not state.changed()


@pytest.mark.parametrize(
    ("mode", "changes", "opens"),
    [
        (SealMode.PRODUCT_KEY, {"mr_enclave": b"N" * 32, "security_version": 2}, True),
        (SealMode.UNIQUE_KEY, {"mr_enclave": b"N" * 32, "security_version": 2}, False),
        (SealMode.UNIQUE_KEY, {}, True),
        (SealMode.PRODUCT_KEY, {"product_id": 9}, False),
        (SealMode.PRODUCT_KEY, {"mr_signer": b"N" * 32}, False),
    ],
)
def test_who_can_unseal(sealed, platform, tmp_path, mode, changes, opens):  # noqa: PLR0917
    sealed().store(FIRST, KEY, mode)
    before = files(tmp_path)
    other = dataclasses.replace(platform, identity=dataclasses.replace(COORDINATOR, **changes))
    loaded = sealed(on=other).load()
    assert isinstance(loaded, Unsealed if opens else Locked)
    if isinstance(loaded, Locked):
        assert loaded.data == before[DATA_FILE]
        assert "this product on this machine" in loaded.reason
    assert files(tmp_path) == before


def test_the_mode_may_change(sealed):
    state = sealed()
    for mode in (SealMode.PRODUCT_KEY, SealMode.UNIQUE_KEY, SealMode.PRODUCT_KEY):
        state.store(FIRST, KEY, mode)
        assert unsealed(sealed()) == FIRST


def test_another_machine_locks_and_a_missing_key_too(sealed, tmp_path):
    sealed().store(FIRST, KEY, MODE)
    other = InProcessPlatform(SimulatedPlatform.create(), COORDINATOR)
    assert "sealed for" in sealed(on=other).load().reason
    (tmp_path / KEY_FILE).unlink()
    assert sealed().load() == Locked((tmp_path / DATA_FILE).read_bytes(), "its key is missing")


@pytest.mark.parametrize("keys", [RawKeys(), NoKeys()])
def test_coordinators_without_an_enclave(sealed, tmp_path, keys):
    sealed(keys=keys).store(FIRST, KEY, MODE)
    loaded = sealed(keys=keys).load()
    if isinstance(keys, RawKeys):
        assert isinstance(loaded, Unsealed)
        assert (tmp_path / KEY_FILE).read_bytes() == KEY.key.reveal()
        (tmp_path / DATA_FILE).write_bytes((tmp_path / DATA_FILE).read_bytes()[:-1] + b"x")
        with pytest.raises(SealedStateError, match="damaged"):
            sealed(keys=keys).load()
    else:
        assert isinstance(loaded, Locked)
        assert not (tmp_path / KEY_FILE).exists()


def test_raw_keys_do_not_open_what_an_enclave_has_sealed(sealed):
    sealed().store(FIRST, KEY, MODE)
    assert isinstance(sealed(keys=RawKeys()).load(), Locked)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 40, b"\4\0\0\0null"])
def test_nothing_can_be_recovered_from_what_is_no_sealed_data(sealed, tmp_path, damage):
    sealed().store(FIRST, KEY, MODE)
    (tmp_path / DATA_FILE).write_bytes(damage)
    with pytest.raises(SealedStateError, match="cut short"):
        sealed().load()


def test_damaged_data_lock(sealed, tmp_path):
    """The key is bound to the data, so it does not unseal for other ones."""
    sealed().store(FIRST, KEY, MODE)
    content = bytearray((tmp_path / DATA_FILE).read_bytes())
    content[-1] ^= 1
    (tmp_path / DATA_FILE).write_bytes(content)
    assert isinstance(sealed().load(), Locked)


def test_damaged_data_with_their_key_are_an_error(sealed, tmp_path, platform):
    """Only who holds the data key can do this; it is no case for a recovery."""
    data = seal_records(FIRST, dataclasses.replace(KEY, key=Secret(b"another key".ljust(32))))
    key = PlatformKeys.of(platform).seal(KEY.key, data, MODE)
    put(tmp_path, {DATA_FILE: data, KEY_FILE: key})
    with pytest.raises(SealedStateError, match="damaged"):
        sealed().load()


@pytest.mark.parametrize("number", [b"", b"-1", b"x", b"1" * 20])
def test_a_wrong_number_is_refused(sealed, tmp_path, platform, number):
    data = seal_records(FIRST | {STATE_VERSION: number}, KEY)
    put(tmp_path, {DATA_FILE: data, KEY_FILE: PlatformKeys.of(platform).seal(KEY.key, data, MODE)})
    with pytest.raises(SealedStateError, match="number"):
        sealed().load()


# A state that is replaced although nobody could read it, and one that was recovered.


def test_a_new_deployment_sets_the_locked_state_aside(sealed, tmp_path):
    sealed().store(FIRST, KEY, MODE)
    old = files(tmp_path)
    other = InProcessPlatform(SimulatedPlatform.create(), COORDINATOR)
    state = sealed(on=other)
    assert isinstance(state.load(), Locked)
    state.store(SECOND | {ROOT_CERTIFICATE: b"new"}, DataKey(Secret(b"n" * 32)), MODE)
    now = files(tmp_path)
    assert {name: now[name + OLD] for name in old} == old
    assert unsealed(sealed(on=other)) == SECOND | {ROOT_CERTIFICATE: b"new"}
    state.store(THIRD | {ROOT_CERTIFICATE: b"new"}, DataKey(Secret(b"n" * 32)), MODE)
    assert {name: files(tmp_path)[name + OLD] for name in old} == old


def test_a_recovered_state_is_not_set_aside_and_counts_on(sealed, tmp_path):
    state = sealed()
    for records in (FIRST, SECOND, THIRD):
        state.store(records, KEY, MODE)
    (tmp_path / KEY_FILE).unlink()
    state = sealed()
    locked = state.load()
    recovered = open_sealed_data(locked.data, KEY.key.reveal())
    state.store(recovered, KEY, MODE)
    assert sorted(files(tmp_path)) == [DATA_FILE, KEY_FILE]
    assert open_sealed_data((tmp_path / DATA_FILE).read_bytes(), KEY.key.reveal())[STATE_VERSION] == b"4"
    assert unsealed(sealed()) == THIRD


def test_a_recovered_state_must_not_be_an_old_one(sealed, tmp_path):
    state = sealed()
    state.store(FIRST, KEY, MODE)
    old = files(tmp_path)
    state.store(SECOND, KEY, MODE)
    put(tmp_path, {DATA_FILE: old[DATA_FILE]})
    state = sealed()
    recovered = open_sealed_data(state.load().data, KEY.key.reveal())
    with pytest.raises(RollbackDetected):
        state.store(recovered, KEY, MODE)
    assert files(tmp_path) == {DATA_FILE: old[DATA_FILE]}


# Rollback


def test_an_old_state_is_noticed(sealed, tmp_path):
    state = sealed()
    state.store(FIRST, KEY, MODE)
    old = files(tmp_path)
    state.store(SECOND, KEY, MODE)
    put(tmp_path, old)
    with pytest.raises(RollbackDetected, match=r"got number 1, expected 2 or more") as refused:
        sealed().load()
    assert "old copy" in refused.value.hint
    assert files(tmp_path) == old


def test_a_state_is_old_from_the_moment_a_newer_one_is_acknowledged(sealed, tmp_path, platform):
    """Not only from its next load."""
    state = sealed()
    state.store(FIRST, KEY, MODE)
    assert platform.raise_counter(hashlib.sha256(ROOT).digest(), 0) == 1


def test_a_loss_of_power_between_write_and_count_is_in_order(sealed, tmp_path, platform):
    class Stopped(Exception):
        pass

    def stop(counter_id, value):
        if value:
            raise Stopped
        return platform.raise_counter(counter_id, value)

    sealed().store(FIRST, KEY, MODE)
    state = SealedState(DirectoryStore(tmp_path), PlatformKeys.of(platform), stop)
    state._version, state._number = DirectoryStore(tmp_path).version(), 1
    with pytest.raises(Stopped):
        state.store(SECOND, KEY, MODE)
    assert unsealed(sealed()) == SECOND
    assert platform.raise_counter(hashlib.sha256(ROOT).digest(), 0) == 2  # the load has counted


def test_a_copy_that_goes_on_elsewhere_is_noticed(sealed, tmp_path):
    """Two coordinators of one deployment on one machine, each with its own directory."""
    here, there = tmp_path / "here", tmp_path / "there"
    first = sealed(here)
    first.store(FIRST, KEY, MODE)
    there.mkdir()
    put(there, files(here))
    second = sealed(there)
    second.load()
    first.store(SECOND, KEY, MODE)
    before = files(there)
    with pytest.raises(RollbackDetected):
        second.store(THIRD, KEY, MODE)
    assert files(there) == before


def test_deployments_do_not_count_each_other(sealed, tmp_path):
    first, second = sealed(tmp_path / "1"), sealed(tmp_path / "2")
    for _ in range(5):
        first.store(FIRST, KEY, MODE)
    second.store(FIRST | {ROOT_CERTIFICATE: b"another"}, KEY, MODE)
    assert unsealed(sealed(tmp_path / "2"))[ROOT_CERTIFICATE] == b"another"


def test_a_state_of_marbleruns_has_no_number(sealed, tmp_path):
    data = seal_records(FIRST, KEY)
    put(tmp_path, {DATA_FILE: data, KEY_FILE: KEY.key.reveal()})
    state = sealed(keys=RawKeys())
    assert unsealed(state) == FIRST
    state.store(SECOND, KEY, MODE)
    put(tmp_path, {DATA_FILE: data, KEY_FILE: KEY.key.reveal()})
    with pytest.raises(RollbackDetected):
        sealed(keys=RawKeys()).load()


def test_without_counters_there_is_no_protection_and_no_error(platform, tmp_path):
    class Uncounted(InProcessPlatform):
        def raise_counter(self, counter_id, value):
            raise CounterUnavailable("there are none")

    uncounted = Uncounted(platform.platform, platform.identity)
    state = SealedState(DirectoryStore(tmp_path), PlatformKeys.of(uncounted), uncounted.raise_counter)
    state.store(FIRST, KEY, MODE)
    old = files(tmp_path)
    state.store(SECOND, KEY, MODE)
    put(tmp_path, old)
    for counter in (uncounted.raise_counter, None):
        assert unsealed(SealedState(DirectoryStore(tmp_path), PlatformKeys.of(uncounted), counter)) == FIRST


def test_a_counter_that_does_not_answer_is_an_error(platform, sealed, tmp_path):
    def broken(counter_id, value):
        raise PlatformError("does not answer")

    sealed().store(FIRST, KEY, MODE)
    before = files(tmp_path)
    state = SealedState(DirectoryStore(tmp_path), PlatformKeys.of(platform), broken)
    for operation in (state.load, lambda: state.store(SECOND, KEY, MODE)):
        with pytest.raises(PlatformError, match="does not answer"):
            operation()
    assert files(tmp_path) == before


def test_a_state_needs_a_root_certificate(sealed, tmp_path):
    with pytest.raises(SealedStateError, match="no root certificate"):
        sealed().store({"state": b"2"}, KEY, MODE)
    assert files(tmp_path) == {}


# Several coordinators, and stores that fail


def test_only_what_another_coordinator_has_written_is_a_change(sealed):
    mine, other = sealed(), sealed()
    mine.store(FIRST, KEY, MODE)
    assert not mine.changed()
    assert other.changed()
    other.load()
    assert not other.changed()
    other.store(SECOND, KEY, MODE)
    assert mine.changed()
    assert unsealed(mine) == SECOND
    assert not mine.changed()


def test_a_change_that_was_overtaken_is_a_conflict(sealed):
    mine, other = sealed(), sealed()
    mine.store(FIRST, KEY, MODE)
    with pytest.raises(StateConflict):
        other.store(SECOND, KEY, MODE)
    other.load()
    other.store(SECOND, KEY, MODE)
    for _ in range(2):
        with pytest.raises(StateConflict):
            mine.store(THIRD, KEY, MODE)
    assert unsealed(mine) == SECOND
    mine.store(THIRD, KEY, MODE)
    assert unsealed(other) == THIRD


class Unreliable(DirectoryStore):
    """Loses the answer to a write, or the write."""

    fails = ""

    def replace(self, *args, **kwargs):
        fails, self.fails = self.fails, ""
        if fails == "before":
            raise StoreUnavailable("away")
        version = super().replace(*args, **kwargs)
        if fails == "after":
            raise StoreUnavailable("away")
        return version


@pytest.mark.parametrize("fails", ["before", "after"])
def test_a_write_whose_end_is_unknown_does_not_stand_in_the_way(platform, sealed, tmp_path, fails):
    store = Unreliable(tmp_path)
    state = SealedState(store, PlatformKeys.of(platform), platform.raise_counter)
    state.store(FIRST, KEY, MODE)
    store.fails = fails
    with pytest.raises(StoreUnavailable):
        state.store(SECOND, KEY, MODE)
    assert not state.changed()
    state.store(THIRD, KEY, MODE)
    assert unsealed(sealed()) == THIRD
    # A number is used once: the host may have kept what did not get through.
    assert open_sealed_data((tmp_path / DATA_FILE).read_bytes(), KEY.key.reveal())[STATE_VERSION] == b"3"


def test_after_a_write_whose_end_is_unknown_another_coordinator_is_noticed(platform, sealed, tmp_path):
    store = Unreliable(tmp_path)
    state = SealedState(store, PlatformKeys.of(platform), platform.raise_counter)
    state.store(FIRST, KEY, MODE)
    store.fails = "before"
    with pytest.raises(StoreUnavailable):
        state.store(SECOND, KEY, MODE)
    other = sealed()
    other.load()
    other.store(THIRD, KEY, MODE)
    assert state.changed()
    with pytest.raises(StateConflict):
        state.store(SECOND, KEY, MODE)
