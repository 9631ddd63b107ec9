"""The two files as bytes, and who can read the key."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.errors import SealedStateError
from confidential_bookstore.secret import Secret
from coordinator.manifest.config import SealMode
from coordinator.recovery.data_key import DataKey
from coordinator.sealing.format import (
    key_info,
    open_sealed_data,
    recovery_data_of,
    seal_records,
    unseal_records,
    unwrap_key,
    wrap_key,
)
from coordinator.sealing.keys import PlatformKeys, RawKeys

KEY = DataKey(Secret(bytes(range(32))))
SEALING_KEYS = {SealPolicy.PRODUCT_KEY: Secret(b"p" * 32), SealPolicy.UNIQUE_KEY: Secret(b"u" * 32)}
RECORDS = {"state": b"2", "rootSecret": b"\x00\xff"}


def test_sealed_data_have_marbleruns_format():
    data = seal_records(RECORDS, DataKey(KEY.key, b'{"00":true}'))
    assert data[:15] == struct.pack("<I", 11) + b'{"00":true}'
    plain = json.loads(AESGCM(KEY.key.reveal()).decrypt(data[15:27], data[27:], None))
    assert {name: base64.b64decode(value) for name, value in plain.items()} == RECORDS


@pytest.mark.parametrize("size", [16, 32])
def test_data_of_marbleruns_are_read(size):
    key, nonce = os.urandom(size), os.urandom(12)
    plain = json.dumps({name: base64.b64encode(value).decode() for name, value in RECORDS.items()}).encode()
    data = struct.pack("<I", 4) + b"null" + nonce + AESGCM(key).encrypt(nonce, plain, None)
    assert unseal_records(data, Secret(key)) == RECORDS
    assert recovery_data_of(data) == b"null"
    assert RawKeys().unseal(key, data) == Secret(key)


@pytest.mark.parametrize(
    ("mode", "policy"), [(SealMode.PRODUCT_KEY, b"ProductKey"), (SealMode.UNIQUE_KEY, b"UniqueKey")]
)
def test_sealed_keys_have_marbleruns_format(mode, policy):
    sealed_key = PlatformKeys(SEALING_KEYS).seal(KEY.key, b"data", mode)
    (length,) = struct.unpack_from("<I", sealed_key)
    assert sealed_key[4 : 4 + length] == policy == key_info(sealed_key)
    box = sealed_key[4 + length :]
    sealing_key = SEALING_KEYS[SealPolicy(policy.decode())].reveal()
    assert AESGCM(sealing_key).decrypt(box[:12], box[12:], hashlib.sha256(b"data").digest()) == KEY.key.reveal()


def test_a_key_file_fits_its_data_its_policy_and_its_machine_only():
    sealed_key = PlatformKeys(SEALING_KEYS).seal(KEY.key, b"data", SealMode.UNIQUE_KEY)
    assert PlatformKeys(SEALING_KEYS).unseal(sealed_key, b"data") == KEY.key
    assert PlatformKeys(SEALING_KEYS).unseal(sealed_key, b"other data") is None
    relabelled = sealed_key.replace(struct.pack("<I", 9) + b"UniqueKey", struct.pack("<I", 10) + b"ProductKey")
    assert PlatformKeys(SEALING_KEYS).unseal(relabelled, b"data") is None
    another = SEALING_KEYS | {SealPolicy.UNIQUE_KEY: Secret(b"n" * 32)}
    assert PlatformKeys(another).unseal(sealed_key, b"data") is None


@pytest.mark.parametrize("size", [0, 15, 17, 31, 33, 64])
def test_a_key_of_another_size_is_none(size):
    assert RawKeys().unseal(bytes(size), b"data") is None
    wrapped = wrap_key(Secret(bytes(size)), KEY.key, info=b"", bound_to=b"x")
    assert unwrap_key(wrapped, KEY.key, bound_to=b"x") is None
    assert open_sealed_data(seal_records(RECORDS, KEY), bytes(size)) is None


@given(st.dictionaries(st.text(), st.binary()), st.sampled_from([16, 32]), st.binary())
def test_any_records_survive(records, size, recovery_data):
    key = DataKey(Secret(os.urandom(size)), recovery_data)
    data = seal_records(records, key)
    assert unseal_records(data, key.key) == records
    assert recovery_data_of(data) == recovery_data


@given(st.binary(max_size=200))
def test_arbitrary_files_are_refused(content):
    assert PlatformKeys(SEALING_KEYS).unseal(content, b"data") is None
    assert open_sealed_data(content, KEY.key.reveal()) is None
    with pytest.raises(SealedStateError, match="damaged"):
        unseal_records(content, KEY.key)


@given(st.data())
def test_no_changed_byte_goes_unnoticed(data):
    sealed = seal_records(RECORDS, KEY)
    sealed_key = PlatformKeys(SEALING_KEYS).seal(KEY.key, sealed, SealMode.PRODUCT_KEY)

    def changed(content):
        content = bytearray(content)
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        return bytes(content)

    assert PlatformKeys(SEALING_KEYS).unseal(sealed_key, changed(sealed)) is None
    assert PlatformKeys(SEALING_KEYS).unseal(changed(sealed_key), sealed) is None


@given(
    st.one_of(
        st.binary(), st.from_type(str).map(str.encode), st.just(b"[1]"), st.just(b'{"a": 1}'), st.just(b'{"a":"!"}')
    )
)
def test_sealed_with_the_key_but_of_another_format(plain):
    nonce = bytes(12)
    content = struct.pack("<I", 4) + b"null" + nonce + AESGCM(KEY.key.reveal()).encrypt(nonce, plain, None)
    with pytest.raises(SealedStateError, match="not in this format"):
        unseal_records(content, KEY.key)
