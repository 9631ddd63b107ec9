"""The pinned root: the one certificate that evidence must lead to, and the only difference between real and simulated.

A `TrustRoot` is configuration. It never comes from a quote, and there is never more than one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID
from confidential_bookstore.errors import ConfigurationError

# What cryptography raises for certificates and CRLs that are malformed in one way or another.
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_HINT = "pin the root itself, not a certificate below it"


@dataclass(frozen=True, slots=True)
class TrustRoot:
    """A root of trust for quotes.

    `certificate_der` is None for Intel's root, which is built into dcap-qvl. `key_id` is `root_key_id()` of the key.
    """

    certificate_der: bytes | None
    key_id: str

    @property
    def simulated(self) -> bool:
        """Any root but Intel's: whoever made it can make any quote."""
        return self.key_id != INTEL_ROOT_KEY_ID

    @classmethod
    def intel(cls) -> TrustRoot:
        """Intel's SGX root, which also certifies TDX."""
        return cls(None, INTEL_ROOT_KEY_ID)

    @classmethod
    def from_pem(cls, pem: bytes) -> TrustRoot:
        """The root in a PEM file with exactly one self-signed CA certificate for a P-256 key.

        Raises:
            ConfigurationError: it is anything else.
        """
        certificate = _only_certificate(pem)
        key = _p256_key(certificate)
        if not _is_ca(certificate):
            raise ConfigurationError("trust root is not a CA certificate", hint=_HINT)
        try:
            certificate.verify_directly_issued_by(certificate)
        except (*MALFORMED, InvalidSignature) as error:
            raise ConfigurationError("trust root is not self-signed", hint=_HINT) from error
        return cls(certificate.public_bytes(Encoding.DER), root_key_id(key))


def root_key_id(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-384 of the uncompressed point (0x04, X, Y) in lower-case hex, the id dcap-qvl reports for a root."""
    return hashlib.sha384(key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)).hexdigest()


def _only_certificate(pem: bytes) -> x509.Certificate:
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except MALFORMED as error:
        raise ConfigurationError("trust root is not a PEM certificate", got=str(error)) from error
    if len(certificates) != 1:
        raise ConfigurationError("trust root must be pinned alone", got=f"{len(certificates)} certificates", expected=1)
    return certificates[0]


def _p256_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        key = certificate.public_key()
    except MALFORMED as error:
        raise ConfigurationError("trust root has an unreadable key", got=str(error), expected="P-256") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
        raise ConfigurationError("trust root has the wrong kind of key", got=kind, expected="P-256")
    return key


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (*MALFORMED, x509.ExtensionNotFound):
        return False
