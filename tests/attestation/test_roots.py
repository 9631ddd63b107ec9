import base64
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.errors import ConfigurationError

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def certificate(key, *, name="Root", issuer=None, issuer_key=None, ca=True, algorithm=hashes.SHA256()):  # noqa: B008
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer or name)]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
    return builder.sign(issuer_key or key, algorithm)


def pem(*certificates):
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates)


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


def test_intel_is_the_one_root_that_is_not_simulated():
    assert TrustRoot.intel() == TrustRoot(None, INTEL_ROOT_KEY_ID)
    assert not TrustRoot.intel().simulated


def test_intels_own_certificate_is_intels_root(sgx):
    chain = sgx.raw[sgx.raw.rindex(b"-----BEGIN CERTIFICATE-----") :].rstrip(b"\0")
    root = TrustRoot.from_pem(chain)
    assert root.key_id == INTEL_ROOT_KEY_ID
    assert not root.simulated
    assert root.certificate_der == x509.load_pem_x509_certificate(chain).public_bytes(Encoding.DER)


def test_any_other_root_is_simulated(key):
    root = TrustRoot.from_pem(pem(certificate(key)))
    assert root.simulated
    assert len(bytes.fromhex(root.key_id)) == 48
    assert TrustRoot.from_pem(pem(certificate(key, name="Renewed"))).key_id == root.key_id


@pytest.mark.parametrize("text", [b"", b"not PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_not_a_certificate(text):
    with pytest.raises(ConfigurationError, match="not a PEM certificate"):
        TrustRoot.from_pem(text)


def test_only_one_root_is_pinned(key):
    with pytest.raises(ConfigurationError, match="alone"):
        TrustRoot.from_pem(pem(certificate(key), certificate(key, name="Other")))


@pytest.mark.parametrize("ca", [False, None])
def test_the_root_is_a_ca(key, ca):
    with pytest.raises(ConfigurationError, match="not a CA"):
        TrustRoot.from_pem(pem(certificate(key, ca=ca)))


def test_the_root_signs_itself(key):
    other = ec.generate_private_key(ec.SECP256R1())
    for wrong in (certificate(key, issuer="Other", issuer_key=other), certificate(key, issuer_key=other)):
        with pytest.raises(ConfigurationError, match="not self-signed"):
            TrustRoot.from_pem(pem(wrong))


@pytest.mark.parametrize(
    "make",
    [
        lambda: certificate(ec.generate_private_key(ec.SECP384R1())),
        lambda: certificate(rsa.generate_private_key(65537, 2048)),
        lambda: certificate(ed25519.Ed25519PrivateKey.generate(), algorithm=None),
    ],
    ids=["P-384", "RSA", "Ed25519"],
)
def test_the_root_has_a_p256_key(make):
    with pytest.raises(ConfigurationError, match="wrong kind of key"):
        TrustRoot.from_pem(pem(make()))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("mask", [0x01, 0x10, 0x1F, 0x80])
def test_a_root_broken_anywhere_is_refused_or_still_intels_key(sgx, mask):
    intel = x509.load_pem_x509_certificate(sgx.raw[sgx.raw.rindex(b"-----BEGIN CERTIFICATE-----") :].rstrip(b"\0"))
    der = intel.public_bytes(Encoding.DER)
    refused = 0
    for index in range(len(der)):
        broken = base64.encodebytes(der[:index] + bytes([der[index] ^ mask]) + der[index + 1 :])
        try:
            root = TrustRoot.from_pem(b"-----BEGIN CERTIFICATE-----\n" + broken + b"-----END CERTIFICATE-----\n")
        except ConfigurationError:
            refused += 1
        else:
            assert root.key_id == INTEL_ROOT_KEY_ID
    assert refused >= len(der) - 1  # one bit of padding after the signature is nobody's
