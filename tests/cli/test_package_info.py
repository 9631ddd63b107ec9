"""`cbs package-info`: SIGSTRUCTs alone, and in enclaves of other kinds."""

from __future__ import annotations

import datetime as dt

import pytest
from deployments import cbs

from cli.package_info import find_sigstruct
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.errors import SigstructInvalid
from confidential_bookstore.owner.policy import read_policy

HEADER = bytes.fromhex("06000000e10000000000010000000000")


@pytest.fixture(scope="module")
def key():
    return sigstruct.new_signing_key()


def signed(key, version: int = 4) -> bytes:
    date = dt.date(2026, 1, 2)
    return sigstruct.make(key, b"M" * 32, product_id=7, security_version=version, date=date)


def elf(*parts: bytes) -> bytes:
    return b"\x7fELF" + b"\x02\x01\x01".ljust(60, b"\0") + b"".join(parts)


def test_a_sigstruct_is_a_policy(key, tmp_path):
    file = tmp_path / "service.sig"
    file.write_bytes(signed(key))
    said = cbs("package-info", file, "--output", "json")
    assert said.json == {
        "UniqueID": (b"M" * 32).hex(),
        "SignerID": sigstruct.mr_signer(key.public_key()).hex(),
        "ProductID": 7,
        "SecurityVersion": 4,
        "Debug": False,
    }
    policy = read_policy(said.out.encode()).package
    assert (policy.unique_id, policy.security_version) == ((b"M" * 32).hex(), 4)
    assert "SecurityVersion  4" in cbs("package-info", file).out


@pytest.mark.parametrize("before", [b"", b"x", HEADER, HEADER[:8] + b"y" * 1001])
def test_anywhere_in_an_elf_file(key, before, tmp_path):
    """And the same one twice, as EGo's host program and the enclave in it have it."""
    file = tmp_path / "enclave.signed"
    file.write_bytes(elf(before, signed(key), b"z" * 33, signed(key)))
    assert cbs("package-info", file, "--output", "json").json["ProductID"] == 7


def test_an_empty_one_does_not_count(key):
    """What a build leaves for a signer to fill in."""
    empty = bytearray(signed(key))
    empty[128 : 128 + 384] = bytes(384)
    assert find_sigstruct(elf(bytes(empty), signed(key))).security_version == 4
    with pytest.raises(SigstructInvalid, match="no single signed enclave"):
        find_sigstruct(elf(bytes(empty)))


@pytest.mark.parametrize(
    "content", [b"", b"text", HEADER, elf(), elf(HEADER), elf(HEADER * 200)], ids=lambda content: str(len(content))
)
def test_no_signed_enclave(content, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(content)
    assert cbs("package-info", file).code == 1


def test_changed_and_cut_and_ambiguous(key, tmp_path):
    good = signed(key)
    for bad in (good[:-1], good[:900] + b"\1" + good[901:], elf(good[:-1]), elf(good, signed(key, 5))):
        with pytest.raises(SigstructInvalid):
            find_sigstruct(bad)
    assert cbs("package-info", tmp_path / "nowhere").code == 3
