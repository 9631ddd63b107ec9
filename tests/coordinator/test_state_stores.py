"""What every `StateStore` must do, and what only a directory can get wrong."""

from __future__ import annotations

import contextlib
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_disk import ModelDisk, PowerLoss

from confidential_bookstore.errors import SealedStateError, StateConflict
from coordinator.sealing import directory
from coordinator.sealing.directory import (
    DATA_FILE,
    JOURNAL,
    KEY_FILE,
    OLD,
    DirectoryStore,
    _from_journal,
    _to_journal,
    open_directory,
)
from coordinator.sealing.sql import SqlStore
from coordinator.sealing.store import version_of

PLACE = Path("/sealed")
NODE, OTHER_NODE = "ab" * 32, "cd" * 32


@pytest.fixture(params=["directory", "shared directory", "sqlite", "mariadb"])
def opened(request, tmp_path):
    """Opens one and the same store, as each of several coordinators would."""
    stores, folders = [], []

    def another():
        if request.param in ("sqlite", "mariadb"):
            store = SqlStore(url)
        elif request.param == "directory":
            store = stores[0] if stores else DirectoryStore(tmp_path / "sealed")
        else:
            folders.append(open_directory(tmp_path / "sealed", shared=True))
            store = folders[-1].__enter__()
        stores.append(store)
        return store

    url = (
        {"sqlite": lambda: f"sqlite:///{tmp_path / 'state.db'}"}.get(
            request.param, lambda: request.getfixturevalue("mariadb").new_database()
        )()
        if request.param in ("sqlite", "mariadb")
        else ""
    )
    yield another
    for store in stores:
        store.close()
    for folder in folders:
        folder.__exit__(None, None, None)


@pytest.fixture
def store(opened):
    return opened()


def content(store):
    pair = store.read()
    return (pair.data, pair.key)


def test_an_empty_store_holds_nothing(store):
    assert store.read() is None
    assert store.version() is None
    assert store.read_node_key(NODE) is None


def test_what_is_written_is_read_again(store, opened):
    first = store.replace(b"data", b"key", expected=None)
    second = store.replace(b"\x00\xff" * 100_000, b"", expected=first)
    for reader in (store, opened()):
        assert content(reader) == (b"\x00\xff" * 100_000, b"")
        assert reader.version() == reader.read().version == second != first


def test_a_key_may_be_missing(store):
    first = store.replace(b"data", b"key", expected=None)
    second = store.replace(b"newer", None, expected=first)
    assert content(store) == (b"newer", None)
    store.replace(b"newest", b"key", expected=second)
    assert content(store) == (b"newest", b"key")


def test_who_does_not_know_the_present_pair_cannot_replace_it(store, opened):
    other = opened()
    first = store.replace(b"first", b"1", expected=None)
    second = other.replace(b"second", b"2", expected=first)
    for expected in (first, None, "", version_of(b"third")):
        with pytest.raises(StateConflict):
            store.replace(b"third", b"3", expected=expected)
    assert content(store) == (b"second", b"2")
    assert store.replace(b"third", b"3", expected=second) == other.version()


def test_nothing_can_be_replaced_in_an_empty_store(store):
    with pytest.raises(StateConflict):
        store.replace(b"data", b"key", expected=version_of(b"other"))
    assert store.read() is None


def test_keys_of_machines(store, opened):
    store.write_node_key(NODE, b"first")
    store.write_node_key(OTHER_NODE, b"other")
    store.write_node_key(NODE, b"\x00second")
    assert (opened().read_node_key(NODE), store.read_node_key(OTHER_NODE)) == (b"\x00second", b"other")
    assert store.read() is None


def test_a_pair_that_is_given_up_can_be_kept(store):
    first = store.replace(b"first", b"1", expected=None)
    second = store.replace(b"second", b"2", expected=first, keep_old=True)
    third = store.replace(b"third", b"3", expected=second)
    assert content(store) == (b"third", b"3")
    assert set_aside(store) == (b"first", b"1")
    fourth = store.replace(b"fourth", None, expected=third, keep_old=True)
    assert set_aside(store) == (b"third", b"3")
    store.replace(b"fifth", b"5", expected=fourth, keep_old=True)
    assert set_aside(store) == (b"fourth", None)
    with pytest.raises(StateConflict):
        store.replace(b"sixth", b"6", expected=third, keep_old=True)
    assert (content(store), set_aside(store)) == ((b"fifth", b"5"), (b"fourth", None))


def set_aside(store):
    if isinstance(store, DirectoryStore):
        key = store._directory / (KEY_FILE + OLD)
        return ((store._directory / (DATA_FILE + OLD)).read_bytes(), key.read_bytes() if key.exists() else None)
    with store._engine.connect() as connection:
        query = "SELECT sealed_data, sealed_key FROM coordinator_state WHERE name = 'old'"
        return tuple(connection.exec_driver_sql(query).one())


def test_of_several_writers_at_a_time_one_wins(opened):
    stores = [opened() for _ in range(4)]
    together = threading.Barrier(len(stores))
    expected = None
    with ThreadPoolExecutor(len(stores)) as pool:
        for turn in range(10):

            def write(number, turn=turn, expected=expected):
                together.wait(30)
                try:
                    return stores[number].replace(f"{turn} {number}".encode(), b"key", expected=expected)
                except StateConflict:
                    return None

            if stores[0] is stores[1]:  # one coordinator has the directory for itself
                versions = [write_alone(stores[0], turn, number, expected) for number in range(4)]
            else:
                versions = list(pool.map(write, range(len(stores))))
            (expected,) = [version for version in versions if version is not None]
            assert {store.version() for store in stores} == {expected}


def write_alone(store, turn, number, expected):
    try:
        return store.replace(f"{turn} {number}".encode(), b"key", expected=expected)
    except StateConflict:
        return None


def test_keys_of_one_machine_from_several_coordinators(opened):
    stores = [opened() for _ in range(4)]
    if stores[0] is stores[1]:  # one coordinator has the directory for itself
        del stores[1:]
    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(lambda store: store.write_node_key(NODE, b"key"), stores))
    assert stores[0].read_node_key(NODE) == b"key"


# The directory


def test_only_the_owner_may_read(tmp_path):
    place = tmp_path / "deep" / "sealed"
    with open_directory(place, shared=True) as store:
        store.replace(b"data", b"key", expected=None)
        store.write_node_key(NODE, b"key")
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {path.name for path in place.iterdir()} == {DATA_FILE, KEY_FILE, f"node_key.{NODE}", "lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}


def test_nothing_but_the_pair_is_left_behind(tmp_path):
    store = DirectoryStore(tmp_path)
    store.replace(b"data", b"key", expected=None)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DATA_FILE, KEY_FILE]


def test_reading_makes_no_directory(tmp_path):
    assert DirectoryStore(tmp_path / "nothing").read() is None
    assert not (tmp_path / "nothing").exists()


def test_a_key_without_data_is_an_error_not_a_new_beginning(tmp_path):
    (tmp_path / KEY_FILE).write_bytes(b"key")
    for operation in (DirectoryStore(tmp_path).read, lambda: DirectoryStore(tmp_path).replace(b"", b"", expected=None)):
        with pytest.raises(SealedStateError, match="no sealed_data"):
            operation()
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_an_unreadable_place_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SealedStateError, match="cannot be read"):
        DirectoryStore(tmp_path / "file").read()
    with pytest.raises(SealedStateError, match="cannot be written") as refused:
        DirectoryStore(tmp_path / "file" / "below").write_node_key(NODE, b"")
    assert str(tmp_path) in refused.value.hint


@pytest.mark.parametrize(("first", "second"), [(False, False), (True, False), (False, True)])
def test_a_directory_is_held_alone_or_shared_by_all(tmp_path, first, second):
    with open_directory(tmp_path, shared=first), pytest.raises(SealedStateError, match="in use"):
        open_directory(tmp_path, shared=second).__enter__()
    with open_directory(tmp_path, shared=True), open_directory(tmp_path, shared=True) as store:
        assert store.read() is None


def test_an_access_waits_for_the_one_before(tmp_path):
    with open_directory(tmp_path, shared=True) as store, ThreadPoolExecutor(1) as pool:
        with directory._flock(tmp_path / "lock"):
            waiting = pool.submit(store.read)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result(10) is None


OLD_PAIR, NEW_PAIR, NEWER_PAIR = (b"old data", b"old key"), (b"new data", b"new key"), (b"newer data", None)


def on(files, fail_at=None):
    disk = ModelDisk(files, fail_at)
    return disk, DirectoryStore(PLACE, files=disk)


def stored(files):
    """What a coordinator finds on a disk with this content, however often it looks."""
    _, store = on(files)
    pair = store.read()
    assert store.read() == pair
    return (pair.data, pair.key) if pair is not None else None


def outcomes_of_write(files, pair, **rest):
    """Every content of the disk after a write that may have been cut off anywhere."""
    outcomes = []
    fail_at = 0
    while True:
        disk, store = on(files, fail_at)
        try:
            store.replace(*pair, expected=store.version(), **rest)
        except PowerLoss:
            outcomes += disk.after_power_loss()
            fail_at += 1
        else:
            return [*outcomes, *disk.after_power_loss()]


def distinct(outcomes):
    return [dict(items) for items in {tuple(sorted(files.items())) for files in outcomes}]


@pytest.mark.parametrize("keep_old", [False, True])
def test_power_may_fail_at_every_step_twice_in_a_row(keep_old):
    (before,) = distinct(outcomes_of_write({}, OLD_PAIR)[-1:])
    once = distinct(outcomes_of_write(before, NEW_PAIR, keep_old=keep_old))
    assert len(once) > 10
    assert {stored(files) for files in once} == {OLD_PAIR, NEW_PAIR}
    for files in once:
        survivor = stored(files)
        for twice in distinct(outcomes_of_write(files, NEWER_PAIR, keep_old=keep_old)):
            assert stored(twice) in (survivor, NEWER_PAIR)


def test_power_may_fail_during_the_very_first_write():
    for files in distinct(outcomes_of_write({}, NEW_PAIR)):
        assert stored(files) in (None, NEW_PAIR)
        for twice in distinct(outcomes_of_write(files, NEWER_PAIR)):
            assert stored(twice) in (None, NEW_PAIR, NEWER_PAIR)


def test_an_acknowledged_write_is_never_lost():
    disk, store = on({})
    first = store.replace(*OLD_PAIR, expected=None)
    store.replace(*NEW_PAIR, expected=first)
    assert {stored(files) for files in disk.after_power_loss()} == {NEW_PAIR}


def test_a_pair_is_set_aside_before_it_is_replaced():
    (before,) = distinct(outcomes_of_write({}, OLD_PAIR)[-1:])
    for files in outcomes_of_write(before, NEW_PAIR, keep_old=True):
        if stored(files) == NEW_PAIR:
            assert (files[DATA_FILE + OLD], files[KEY_FILE + OLD]) == OLD_PAIR


def test_keys_of_machines_survive_a_loss_of_power():
    fail_at = 0
    while True:
        disk, store = on({f"node_key.{NODE}": b"old"}, fail_at)
        try:
            store.write_node_key(NODE, b"new")
        except PowerLoss:
            fail_at += 1
            assert {on(files)[1].read_node_key(NODE) for files in disk.after_power_loss()} <= {b"old", b"new"}
        else:
            break
    assert fail_at > 3
    assert {on(files)[1].read_node_key(NODE) for files in disk.after_power_loss()} == {b"new"}


class FullDisk(ModelDisk):
    """Refuses one operation, counted from 0, and goes on."""

    refuse = -1

    def _step(self, torn=None):
        if self.operations == self.refuse:
            self.operations += 1
            raise OSError(28, "No space left on device")
        super()._step(torn)


@pytest.mark.parametrize("refuse", range(12))
@pytest.mark.parametrize("fail_after", range(14))
def test_a_failed_write_does_not_endanger_the_next_one(refuse, fail_after):
    """The process lives on after an I/O error, and then the power fails as well."""
    disk = FullDisk()
    store = DirectoryStore(PLACE, files=disk)
    store.replace(*OLD_PAIR, expected=None)
    disk.refuse = disk.operations + refuse
    with contextlib.suppress(SealedStateError):
        store.replace(*NEW_PAIR, expected=store.version())
    disk.refuse = -1
    disk.fail_at = disk.operations + fail_after
    try:
        store.replace(*NEWER_PAIR, expected=store.version())
    except PowerLoss:
        assert {stored(files) for files in disk.after_power_loss()} <= {OLD_PAIR, NEW_PAIR, NEWER_PAIR}
    else:
        assert {stored(files) for files in disk.after_power_loss()} == {NEWER_PAIR}


@given(st.binary(), st.none() | st.binary())
def test_a_journal_survives(data, key):
    assert _from_journal(_to_journal(data, key)) == (data, key)


@given(st.binary() | st.binary().map(lambda rest: b"cbspair1\xff\xff" + rest))
def test_any_other_journal_is_refused(content):
    with pytest.raises(SealedStateError, match="damaged"):
        _from_journal(content)


def test_a_damaged_journal_is_not_used(tmp_path):
    store = DirectoryStore(tmp_path)
    store.replace(b"data", b"key", expected=None)
    (tmp_path / JOURNAL).write_bytes(_to_journal(b"other", b"key")[:-1])
    with pytest.raises(SealedStateError, match="damaged"):
        store.read()
    (tmp_path / JOURNAL).unlink()
    assert content(store) == (b"data", b"key")
