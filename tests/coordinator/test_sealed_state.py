from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from model_disk import ModelDisk, PowerLoss

from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.errors import SealedStateError
from confidential_bookstore.secret import Secret
from coordinator.sealing.sealed_state import (
    DATA_FILE,
    KEY_FILE,
    SealedState,
    seal_key,
    seal_records,
    unseal_key,
    unseal_records,
)

SEALING_KEY = Secret(bytes(range(32)))
PLACE = Path("/sealed")
OLD = {"state": b"2", "rootSecret": b"old"}
NEW = {"state": b"3", "rootSecret": b"new"}
NEWER = {"state": b"3", "rootSecret": b"newer"}


def on(disk: ModelDisk) -> SealedState:
    return SealedState(PLACE, SEALING_KEY, files=disk)


def test_what_is_stored_is_loaded_again(tmp_path):
    SealedState(tmp_path / "deep" / "sealed", SEALING_KEY).store(OLD)
    SealedState(tmp_path / "deep" / "sealed", SEALING_KEY).store(NEW)
    assert SealedState(tmp_path / "deep" / "sealed", SEALING_KEY).load() == NEW


def test_an_empty_directory_holds_no_state(tmp_path):
    assert SealedState(tmp_path / "nothing", SEALING_KEY).load() is None
    assert not (tmp_path / "nothing").exists()


def test_only_the_owner_may_read(tmp_path):
    place = tmp_path / "sealed"
    SealedState(place, SEALING_KEY).store(OLD)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {
        DATA_FILE: 0o600,
        KEY_FILE: 0o600,
    }


def test_the_files_have_marbleruns_format(tmp_path):
    SealedState(tmp_path, SEALING_KEY).store({"state": b"2", "rootSecret": b"\x00\xff"})
    data, sealed_key = (tmp_path / DATA_FILE).read_bytes(), (tmp_path / KEY_FILE).read_bytes()
    assert data[:8] == struct.pack("<I", 4) + b"null"
    (length,) = struct.unpack_from("<I", sealed_key)
    assert sealed_key[4 : 4 + length] == b"ProductKey"
    box = sealed_key[4 + length :]
    data_key = AESGCM(SEALING_KEY.reveal()).decrypt(box[:12], box[12:], hashlib.sha256(data).digest())
    plain = json.loads(AESGCM(data_key).decrypt(data[8:20], data[20:], None))
    assert {name: base64.b64decode(value) for name, value in plain.items()} == {
        "state": b"2",
        "rootSecret": b"\x00\xff",
    }


def test_the_data_key_stays_and_each_key_file_fits_its_data_only(tmp_path):
    first = SealedState(tmp_path, SEALING_KEY)
    first.store(OLD)
    data, sealed_key = (tmp_path / DATA_FILE).read_bytes(), (tmp_path / KEY_FILE).read_bytes()
    again = SealedState(tmp_path, SEALING_KEY)
    again.load()
    again.store(NEW)
    new_data, new_key = (tmp_path / DATA_FILE).read_bytes(), (tmp_path / KEY_FILE).read_bytes()
    assert unseal_key(sealed_key, data, SEALING_KEY) == unseal_key(new_key, new_data, SEALING_KEY) is not None
    assert unseal_key(sealed_key, new_data, SEALING_KEY) is None
    assert unseal_key(new_key, data, SEALING_KEY) is None


def test_another_machine_cannot_unseal_and_changes_nothing(tmp_path):
    SealedState(tmp_path, SEALING_KEY, policy=SealPolicy.PRODUCT_KEY).store(OLD)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SealedStateError, match="cannot be unsealed") as refused:
        SealedState(tmp_path, Secret(bytes(32))).load()
    assert "ProductKey" in str(refused.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("missing", [DATA_FILE, KEY_FILE])
def test_one_file_alone_is_an_error_not_a_new_beginning(tmp_path, missing):
    SealedState(tmp_path, SEALING_KEY).store(OLD)
    (tmp_path / missing).unlink()
    with pytest.raises(SealedStateError, match="cannot be unsealed"):
        SealedState(tmp_path, SEALING_KEY).load()


def test_an_unreadable_place_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SealedStateError, match="cannot be read"):
        SealedState(tmp_path / "file", SEALING_KEY).load()
    with pytest.raises(SealedStateError, match="cannot be written") as refused:
        SealedState(tmp_path / "file" / "below", SEALING_KEY).store(OLD)
    assert str(tmp_path) in refused.value.hint


def outcomes_of_store(files: dict[str, bytes], records: dict[str, bytes]) -> list[dict[str, bytes]]:
    """Every content of the disk after a load and a store that may have been cut off anywhere."""
    outcomes = []
    fail_at = 0
    while True:
        disk = ModelDisk(files, fail_at)
        try:
            sealed = on(disk)
            sealed.load()
            sealed.store(records)
        except PowerLoss:
            outcomes += disk.after_power_loss()
            fail_at += 1
        else:
            return [*outcomes, *disk.after_power_loss()]


def test_power_may_fail_at_every_step_twice_in_a_row():
    disk = ModelDisk()
    on(disk).store(OLD)
    (before,) = disk.after_power_loss()
    once = outcomes_of_store(before, NEW)
    assert len(once) > 10
    assert {str(on(ModelDisk(files)).load()) for files in once} == {str(OLD), str(NEW)}
    for files in once:
        survivor = on(ModelDisk(files)).load()
        for twice in outcomes_of_store(files, NEWER):
            assert on(ModelDisk(twice)).load() in (survivor, NEWER)


def test_power_may_fail_during_the_very_first_write():
    for files in outcomes_of_store({}, NEW):
        assert on(ModelDisk(files)).load() in (None, NEW)
        for twice in outcomes_of_store(files, NEWER):
            assert on(ModelDisk(twice)).load() in (None, NEW, NEWER)


def test_an_acknowledged_write_is_never_lost():
    disk = ModelDisk()
    on(disk).store(NEW)
    assert [on(ModelDisk(files)).load() for files in disk.after_power_loss()] == [NEW]


class FullDisk(ModelDisk):
    """Cannot rename the data file while it is full."""

    full = False

    def rename(self, old, new):
        if new.name == DATA_FILE and self.full:
            raise OSError(28, "No space left on device")
        super().rename(old, new)


@pytest.mark.parametrize("fail_after", range(12))
def test_a_failed_write_does_not_endanger_the_next_one(fail_after):
    """The process lives on after an I/O error in the middle of the renames, and then the power fails as well."""
    disk = FullDisk()
    sealed = on(disk)
    sealed.store(OLD)
    disk.full = True
    with pytest.raises(SealedStateError, match=r"cannot be written.*No space"):
        sealed.store(NEW)
    disk.full = False
    disk.fail_at = disk.operations + fail_after
    try:
        sealed.store(NEWER)
    except PowerLoss:
        assert all(on(ModelDisk(files)).load() in (OLD, NEW, NEWER) for files in disk.after_power_loss())
    else:
        assert [on(ModelDisk(files)).load() for files in disk.after_power_loss()] == [NEWER]


@given(st.dictionaries(st.text(), st.binary()))
def test_any_records_survive(records):
    key = Secret(os.urandom(32))
    assert unseal_records(seal_records(records, key), key) == records


@given(st.binary(max_size=200))
def test_arbitrary_files_are_refused(content):
    key = Secret(bytes(32))
    assert unseal_key(content, b"data", key) is None
    with pytest.raises(SealedStateError):
        unseal_records(content, key)


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data):
    key = Secret(bytes(32))
    sealed = seal_records(OLD, key)
    sealed_key = seal_key(key, sealed, SEALING_KEY, SealPolicy.PRODUCT_KEY)
    changed = bytearray(sealed)
    changed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    assert unseal_key(sealed_key, bytes(changed), SEALING_KEY) is None


@given(
    st.one_of(
        st.binary(), st.from_type(str).map(str.encode), st.just(b"[1]"), st.just(b'{"a": 1}'), st.just(b'{"a":"!"}')
    )
)
def test_sealed_by_us_but_of_another_format(plain):
    key = Secret(bytes(32))
    nonce = bytes(12)
    content = struct.pack("<I", 4) + b"null" + nonce + AESGCM(key.reveal()).encrypt(nonce, plain, None)
    with pytest.raises(SealedStateError, match="not in this format"):
        unseal_records(content, key)
