"""The DER writer against `cryptography`'s and known encodings."""

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.simulation import der


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**40), max_size=8))
def test_object_identifiers_are_what_cryptography_writes(first, second, rest):
    dotted = ".".join(map(str, (first, second, *rest)))
    certificate_policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier(dotted), None)])
    assert certificate_policies.public_bytes() == der.sequence(der.sequence(der.object_identifier(dotted)))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "020100"), (127, "02017f"), (128, "02020080"), (255, "020200ff"), (256, "02020100"), (65535, "020300ffff")],
)
def test_integers(value, encoded):
    assert der.integer(value).hex() == encoded


def test_lengths():
    assert der.octet_string(bytes(127))[:2].hex() == "047f"
    assert der.octet_string(bytes(128))[:3].hex() == "048180"
    assert der.octet_string(bytes(256))[:4].hex() == "04820100"


def test_the_rest():
    assert der.boolean(True).hex() == "0101ff"
    assert der.boolean(False).hex() == "010100"
    assert der.enumerated(2).hex() == "0a0102"
