"""SIGSTRUCT: what is signed, and what EINIT refuses."""

import datetime as dt
import functools
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.errors import ConfigurationError, EnclaveError, MeasurementMismatch, SigstructInvalid

MEASUREMENT = hashlib.sha256(b"image").digest()
DATE = dt.date(2026, 11, 23)


@functools.cache
def key():
    return sigstruct.new_signing_key()


@functools.cache
def signed(debug=False):
    return sigstruct.make(key(), MEASUREMENT, product_id=7, security_version=0x203, debug=debug, date=DATE)


def pem(private_key):
    return private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("debug", [False, True])
def test_initialise_gives_the_signed_identity(debug):
    identity = sigstruct.initialise(signed(debug), MEASUREMENT)
    assert identity.mr_enclave == MEASUREMENT
    assert identity.mr_signer == sigstruct.mr_signer(key().public_key())
    assert (identity.product_id, identity.security_version, identity.debug) == (7, 0x203, debug)
    assert sigstruct.parse(signed(debug)).date == DATE


def test_the_layout_is_the_processor_manual_s():
    raw = signed()
    modulus = key().public_key().public_numbers().n
    assert len(raw) == 1808
    assert raw[:16].hex() == "06000000e10000000000010000000000"
    assert raw[20:24].hex() == "23112620"  # BCD, little-endian
    assert raw[24:40].hex() == "01010000600000006000000001000000"
    assert raw[128:512] == modulus.to_bytes(384, "little")
    assert struct.unpack_from("<I", raw, 512) == (3,)
    assert raw[960:992] == MEASUREMENT
    assert struct.unpack_from("<HH", raw, 1024) == (7, 0x203)
    signature, q1, q2 = (int.from_bytes(raw[start : start + 384], "little") for start in (516, 1040, 1424))
    assert q1 == signature**2 // modulus
    assert q2 == (signature**3 - q1 * signature * modulus) // modulus


def test_another_measurement_is_a_mismatch():
    with pytest.raises(MeasurementMismatch) as mismatch:
        sigstruct.initialise(signed(), bytes(32))
    assert mismatch.value.got == bytes(32).hex()
    assert mismatch.value.expected == MEASUREMENT.hex()


@given(st.integers(0, 1807), st.integers(1, 255))
def test_no_changed_byte_passes(offset, change):
    changed = bytearray(signed())
    changed[offset] ^= change
    with pytest.raises(SigstructInvalid):
        sigstruct.initialise(bytes(changed), MEASUREMENT)


@given(st.binary(max_size=2000) | st.binary(min_size=1808, max_size=1808))
def test_anything_else_is_invalid(raw):
    with pytest.raises(SigstructInvalid):
        sigstruct.parse(raw)


def test_somebody_else_s_signature_makes_another_signer():
    other = sigstruct.new_signing_key()
    theirs = sigstruct.make(other, MEASUREMENT, product_id=7, security_version=0x203, date=DATE)
    assert sigstruct.parse(theirs).mr_signer != sigstruct.parse(signed()).mr_signer


def test_signing_keys_are_rsa_3072_with_exponent_3():
    assert sigstruct.load_signing_key(pem(key())).private_numbers() == key().private_numbers()
    for wrong in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=3072)),
        pem(rsa.generate_private_key(public_exponent=3, key_size=2048)),
    ):
        with pytest.raises(ConfigurationError, match="signing key"):
            sigstruct.load_signing_key(wrong)


def test_an_impossible_measurement_is_not_signed():
    with pytest.raises(EnclaveError):
        sigstruct.make(key(), bytes(31), product_id=7, security_version=1, date=DATE)
