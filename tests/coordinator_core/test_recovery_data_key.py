from __future__ import annotations

import hashlib
import json
import random

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st
from recovery_material import Sealed, public_keys, slow_combine

from confidential_bookstore.errors import RecoveryError
from coordinator.recovery.data_key import RecoveryData, new_data_key
from coordinator.recovery.ephemeral import EphemeralKey


def hashes_of(shares) -> dict[str, bool]:
    return {hashlib.sha256(share).hexdigest(): True for share in shares}


def test_without_recovery_keys_nobody_gets_anything():
    data_key, secrets = new_data_key({}, 0)
    assert len(data_key.key.reveal()) == 32
    assert (data_key.recovery_data, secrets) == (b"null", {})


@pytest.mark.parametrize("threshold", [0, 1])
def test_one_holder_gets_the_key_itself(threshold):
    sealed = Sealed.new(1, threshold)
    assert sealed.shares == [sealed.data_key.key.reveal()]
    assert sealed.data_key.recovery_data == b"null"


@pytest.mark.parametrize(("count", "threshold"), [(2, 0), (3, 3), (5, 0)])
def test_all_of_several_holders(count, threshold):
    sealed = Sealed.new(count, threshold)
    assert {len(share) for share in sealed.shares} == {32}
    key = bytes(32)
    for share in sealed.shares:
        key = bytes(a ^ b for a, b in zip(key, share, strict=True))
    assert key == sealed.data_key.key.reveal()
    assert json.loads(sealed.data_key.recovery_data) == hashes_of(sealed.shares)
    assert sealed.data_key.recovery_data.endswith(b"}")


@pytest.mark.parametrize(("count", "threshold"), [(3, 2), (5, 3)])
def test_some_of_several_holders(count, threshold):
    sealed = Sealed.new(count, threshold)
    assert {len(share) for share in sealed.shares} == {33}
    assert slow_combine(sealed.shares[-threshold:]) == sealed.data_key.key.reveal()
    assert json.loads(sealed.data_key.recovery_data) == hashes_of(sealed.shares)
    assert sealed.data_key.recovery_data.endswith(b"}" + b" " * threshold)


def test_shares_go_by_name_whatever_the_order():
    """The same randomness gives the same holder the same share."""
    keys = public_keys(3)
    backwards = dict(reversed(keys.items()))
    made = [new_data_key(given, 2, random.Random(7).randbytes)[0] for given in (keys, backwards)]
    assert made[0] == made[1]


@pytest.mark.parametrize(("count", "threshold"), [(3, 4), (3, -1), (3, 1), (0, 1)])
def test_a_threshold_that_no_manifest_has(count, threshold):
    with pytest.raises(ValueError, match="threshold"):
        new_data_key(public_keys(count), threshold)


def test_nothing_secret_in_the_repr():
    sealed = Sealed.new(2)
    assert "Secret(***)" in repr(sealed.data_key)
    assert repr(sealed.data_key.key.reveal()) not in repr(sealed.data_key)


class TestRecoveryData:
    @given(shares=st.lists(st.binary(max_size=40), unique=True, max_size=5), threshold=st.integers(0, 255))
    def test_is_read_as_it_was_written(self, shares, threshold):
        data = RecoveryData.of(shares, threshold if shares else 0)
        assert RecoveryData.read(data.write()) == data
        assert json.loads(data.write()) == (hashes_of(shares) or None)

    def test_as_marblerun_writes_them(self):
        written = json.dumps(hashes_of([b"a", b"b"]), separators=(",", ":")).encode()
        assert RecoveryData.read(written) == RecoveryData.of([b"a", b"b"], 0)

    @pytest.mark.parametrize(
        "raw",
        [b"", b"null", b"null  ", b"{}", b"[]", b'"x"', b"7", b'{"ab":true}', b'{"x":true}', b"\xff", b"[" * 9999],
    )
    def test_everything_else_counts_as_lost(self, raw):
        assert RecoveryData.read(raw) == RecoveryData()

    @given(raw=st.binary(max_size=80))
    def test_whatever_the_host_writes(self, raw):
        assert len(RecoveryData.read(raw).shares) in range(2)


class TestEphemeralKey:
    def test_what_is_encrypted_for_it_arrives(self):
        key = EphemeralKey.generate()
        public = serialization.load_der_public_key(key.public_der)
        assert public.key_size == 4096
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        assert key.decrypt(public.encrypt(b"share", oaep)) == b"share"
        other = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=b"label")
        for wrong in (b"", b"\0" * 512, b"\xff" * 512, bytes(513), public.encrypt(b"share", other)):
            with pytest.raises(RecoveryError, match="cannot be decrypted"):
                key.decrypt(wrong)
