"""Values of secrets: how they are made, and how they are kept."""

from __future__ import annotations

import hashlib
import hmac
import json
from uuid import UUID

import pytest
from core_material import NOW, load
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import SealedStateError
from confidential_bookstore.secret import Secret
from coordinator.secret_value import SecretType, SecretValue
from coordinator.secrets.generation import generate_unique, unique_symmetric
from coordinator.secrets.lifecycle import first_values

ROOT = Secret(bytes(range(32)))
UUID_1 = UUID("3f9a8c52-6c6e-4f8e-9d2b-5a1f0c7e4d11")
UUID_2 = UUID("3f9a8c52-6c6e-4f8e-9d2b-5a1f0c7e4d12")


def hkdf_sha256(key: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, written down once more."""
    extracted = hmac.digest(salt, key, hashlib.sha256)
    output, block, counter = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(extracted, block + info + bytes([counter]), hashlib.sha256)
        output, counter = output + block, counter + 1
    return output[:length]


class TestUniqueSymmetric:
    @given(
        root=st.binary(min_size=32, max_size=32),
        uuid=st.uuids(),
        name=st.text(max_size=20),
        marble_type=st.text(max_size=20),
        length=st.integers(1, 8160),
    )
    def test_against_an_independent_computation(self, *, root, uuid, name, marble_type, length):
        for binding, info in ((True, marble_type.encode()), (False, b"")):
            expected = hkdf_sha256(root, str(uuid).encode() + name.encode(), info, length)
            assert unique_symmetric(Secret(root), uuid, name, marble_type, 8 * length, binding=binding) == expected

    def test_a_known_value(self):
        """Computed with `openssl kdf -keylen 16 -kdfopt digest:SHA256 ... HKDF`."""
        key = unique_symmetric(ROOT, UUID_1, "key", "bookbuyer", 128, binding=True)
        assert key.hex() == "ec223986497b8555e325832c071e745b"

    def test_everything_in_the_formula_counts(self):
        variants = [
            (ROOT, UUID_1, "key", "bookbuyer", True),
            (Secret(b"\1" * 32), UUID_1, "key", "bookbuyer", True),
            (ROOT, UUID_2, "key", "bookbuyer", True),
            (ROOT, UUID_1, "kez", "bookbuyer", True),
            (ROOT, UUID_1, "key", "bookstore", True),
            (ROOT, UUID_1, "key", "bookbuyer", False),
        ]
        keys = {
            unique_symmetric(root, uuid, name, kind, 256, binding=binding)
            for root, uuid, name, kind, binding in variants
        }
        assert len(keys) == len(variants)

    def test_without_binding_the_type_does_not_count(self):
        assert unique_symmetric(ROOT, UUID_1, "key", "a", 256, binding=False) == unique_symmetric(
            ROOT, UUID_1, "key", "b", 256, binding=False
        )


SECRETS = {
    "shared": {"Type": "symmetric-key", "Size": 128, "Shared": True},
    "unique": {"Type": "symmetric-key", "Size": 192},
    "shared_cert": {"Type": "cert-ed25519", "Shared": True, "ValidFor": 7},
    "unique_cert": {"Type": "cert-ecdsa", "Size": 256},
    "uploaded": {"Type": "symmetric-key", "Size": 128, "Shared": True, "UserDefined": True},
    "note": {"Type": "plain", "UserDefined": True},
}


class TestGenerate:
    def test_shared_ones_only_and_never_uploaded_ones(self, authority):
        values = first_values(load(Secrets=SECRETS).secrets, authority, NOW).present
        assert values.keys() == {"shared", "shared_cert"}

    def test_symmetric_keys_come_from_the_given_source(self, authority):
        values = first_values(load(Secrets=SECRETS).secrets, authority, NOW, lambda size: b"\x05" * size).present
        assert values["shared"] == SecretValue(
            type=SecretType.SYMMETRIC_KEY, size=128, shared=True, private=Secret(b"\5" * 16), public=Secret(b"\5" * 16)
        )

    def test_the_definition_comes_along(self, authority):
        value = first_values(load(Secrets=SECRETS).secrets, authority, NOW).present["shared_cert"]
        assert (value.type, value.size, value.shared, value.user_defined, value.valid_for) == (
            SecretType.CERT_ED25519, 0, True, False, 7,
        )  # fmt: skip

    def test_random_by_default(self, authority):
        manifest = load(Secrets=SECRETS)
        first, second = (first_values(manifest.secrets, authority, NOW).present for _ in range(2))
        assert first["shared"] != second["shared"]
        assert len(first["shared"].private.reveal()) == 16

    def unique(self, authority, name, uuid=UUID_1, binding=True):
        spec = load(Secrets=SECRETS).secrets[name]
        return generate_unique(spec, authority, ROOT, marble_type="buyer", uuid=uuid, binding=binding, now=NOW)

    def test_a_unique_key_is_the_same_again_for_the_same_marble(self, authority):
        value = self.unique(authority, "unique")
        assert value == self.unique(authority, "unique")
        assert value != self.unique(authority, "unique", uuid=UUID_2)
        assert value != self.unique(authority, "unique", binding=False)
        assert value.private.reveal() == hkdf_sha256(ROOT.reveal(), f"{UUID_1}unique".encode(), b"buyer", 24)
        assert value.public == value.private

    def test_a_unique_certificate_is_fresh_each_time(self, authority):
        first, second = self.unique(authority, "unique_cert"), self.unique(authority, "unique_cert")
        assert first.certificate != second.certificate
        assert first.private != second.private


class TestRecords:
    def test_round_trip(self, authority):
        for value in first_values(load(Secrets=SECRETS).secrets, authority, NOW).present.values():
            assert SecretValue.from_record(value.to_record()) == value

    def test_the_format_is_marblerun_s(self):
        value = SecretValue(
            type=SecretType.SYMMETRIC_KEY, size=16, shared=True, private=Secret(b"ab"), public=Secret(b"ab")
        )
        assert value.to_record() == (
            b'{"Type":"symmetric-key","Size":16,"Shared":true,"UserDefined":false,"Cert":null,"ValidFor":0,'
            b'"Private":"YWI=","Public":"YWI="}'
        )

    RECORD = json.dumps(
        {"Type": "plain", "Size": 0, "Shared": False, "UserDefined": True, "Cert": None, "ValidFor": 0,
         "Private": None, "Public": "YWI="}
    )  # fmt: skip

    def test_what_is_null_is_empty(self):
        value = SecretValue.from_record(self.RECORD.encode())
        assert (value.certificate, value.private, value.public) == (None, Secret(b""), Secret(b"ab"))

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("plain", "PLAIN"),
            ('"Size"', '"size"'),
            ("YWI=", "YWI"),
            ('"YWI="', "7"),
            ('"Size": 0', '"Size": null'),
            ("{", ""),
        ],
    )
    def test_what_is_not_a_record(self, old, new):
        assert old in self.RECORD
        with pytest.raises(SealedStateError) as caught:
            SecretValue.from_record(self.RECORD.replace(old, new, 1).encode())
        assert "YWI" not in str(caught.value)

    def test_nothing_secret_is_in_the_repr(self):
        value = SecretValue(type=SecretType.PLAIN, private=Secret(b"geheim"), public=Secret(b"geheim"))
        assert "geheim" not in repr(value)
