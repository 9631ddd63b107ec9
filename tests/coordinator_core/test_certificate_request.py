"""What a certificate request may ask for."""

from __future__ import annotations

import pytest
from core_material import request
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import InvalidRequest
from coordinator.pki.certificate_request import MAX_NAMES, MAX_REQUEST_SIZE, requested_names

KEY = ec.generate_private_key(ec.SECP384R1())
VALID = request("shop.example", "127.0.0.1", key=KEY)


def names(csr: bytes) -> list[str]:
    accepted = requested_names(csr, trust_domain="Marbles.Internal", reserved_names=["Bookbuyer", "store"])
    return [str(name.value) for name in accepted]


def signed(builder: x509.CertificateSigningRequestBuilder, key=KEY, algorithm=None) -> bytes:
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


EMPTY = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))


def test_names_in_their_order():
    assert names(request("b.example", "10.0.0.1", "localhost", "::1", "_x-1.a")) == [
        "b.example",
        "10.0.0.1",
        "localhost",
        "::1",
        "_x-1.a",
    ]


def test_a_request_without_names():
    assert names(request()) == []


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)])
def test_the_key_may_be_of_any_kind(key):
    algorithm = hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None
    assert names(signed(EMPTY, key, algorithm)) == []


@pytest.mark.parametrize(
    "name",
    ["marbles.internal", "MARBLES.internal", "bookstore.marbles.internal", "a.b.Marbles.Internal"],
)
def test_names_below_the_trust_domain(name):
    with pytest.raises(InvalidRequest, match="below the trust domain"):
        names(request("ok.example", name))


def test_names_that_only_look_like_the_trust_domain():
    assert names(request("xmarbles.internal", "marbles.internal.example"))


@pytest.mark.parametrize(
    "name", ["bookbuyer", "BOOKBUYER", "store", "Store", "store.shop", "Bookbuyer.shop.svc.cluster.local"]
)
def test_names_of_other_marbles(name):
    with pytest.raises(InvalidRequest, match="another marble type"):
        names(request(name))


def test_names_that_only_begin_like_another_marble():
    assert names(request("store2", "my-store", "store2.shop", "shop.store"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*",
        "*.example",
        "a..b",
        ".a",
        "a.",
        "-a",
        "a-",
        "a b",
        "a/b",
        "store\x00.example",
        "x" * 64,
        "é.example",
        ".".join(["x" * 60] * 5),
    ],
)
def test_what_is_not_a_dns_name(name):
    with pytest.raises(InvalidRequest):
        names(request(x509.DNSName._init_without_validation(name)))  # as a stranger's request would have it


@pytest.mark.parametrize(
    "name",
    [
        x509.UniformResourceIdentifier("spiffe://marbles.internal/marble/bookstore"),
        x509.RFC822Name("a@example.com"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.DirectoryName(x509.Name([])),
        x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x05\x00"),
    ],
)
def test_other_kinds_of_names(name):
    with pytest.raises(InvalidRequest, match=f"of a kind that is not issued: got {type(name).__name__}"):
        names(request(name))


def test_an_address_range():
    encoded = bytes.fromhex("300a" + "8708" + "0a000000ff000000")  # iPAddress of eight bytes, as in name constraints
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), encoded)
    with pytest.raises(InvalidRequest):
        names(signed(EMPTY.add_extension(extension, critical=False), algorithm=hashes.SHA384()))


@pytest.mark.parametrize("encoded", [b"", b"\x30", b"\x04\x00", bytes.fromhex("3003870100"), bytes.fromhex("30028300")])
def test_a_malformed_extension(encoded):
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), encoded)
    with pytest.raises(InvalidRequest, match="extensions of the certificate request cannot be read"):
        names(signed(EMPTY.add_extension(extension, critical=False), algorithm=hashes.SHA384()))


def test_another_key_has_signed():
    other = request("shop.example", "127.0.0.1")
    own_key = KEY.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    foreign = (
        x509.load_der_x509_csr(other)
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )
    with pytest.raises(InvalidRequest, match="not signed by its own key"):
        names(VALID.replace(own_key, foreign))


@pytest.mark.parametrize("csr", [b"", b"x", VALID[:-1], VALID + b"\0", VALID + VALID])
def test_what_is_not_a_request(csr):
    with pytest.raises(InvalidRequest, match="cannot be read"):
        names(csr)


def test_a_version_that_does_not_exist():
    version = VALID.index(b"\x02\x01\x00") + 2
    with pytest.raises(InvalidRequest, match="cannot be read"):
        names(VALID[:version] + b"\x07" + VALID[version + 1 :])


def test_size_is_bounded():
    with pytest.raises(InvalidRequest, match="too large"):
        names(VALID.ljust(MAX_REQUEST_SIZE + 1, b"\0"))


def test_number_of_names_is_bounded():
    assert len(names(request(*(f"n{i}" for i in range(MAX_NAMES))))) == MAX_NAMES
    with pytest.raises(InvalidRequest, match="too many names: got 65"):
        names(request(*(f"n{i}" for i in range(MAX_NAMES + 1))))


def names_or_error(csr: bytes) -> list[str] | InvalidRequest:
    try:
        return names(csr)
    except InvalidRequest as error:
        return error


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data):
    assert isinstance(names_or_error(data), InvalidRequest)


@given(st.integers(0, len(VALID) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(offset, difference):
    changed = bytearray(VALID)
    changed[offset] ^= difference
    assert isinstance(names_or_error(bytes(changed)), InvalidRequest)


@given(st.binary(max_size=60))
def test_any_bytes_as_names_are_names_or_refused(encoded):
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), encoded)
    csr = signed(EMPTY.add_extension(extension, critical=False), algorithm=hashes.SHA384())
    assert isinstance(names_or_error(csr), list | InvalidRequest)
