"""A user of the manifest, as TLS shows it: a client certificate and its private key, from PEM files.

MarbleRun knows a user by the exact bytes of the certificate. Keys in tokens (PKCS#11) are not supported.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.secret import Secret


@dataclass(frozen=True, slots=True)
class User:
    """What a connection shows: both in PEM, the key unencrypted and in memory only."""

    certificate_pem: bytes
    key_pem: Secret[bytes]


def read_user(certificate_pem: bytes, key_pem: bytes) -> User:
    """A certificate and the private key that belongs to it.

    Raises:
        ConfigurationError: one of them cannot be read, or they do not belong together.
    """
    try:
        certificate = x509.load_pem_x509_certificates(certificate_pem)[0]
        public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (*MALFORMED, IndexError) as error:
        raise ConfigurationError("the user's certificate cannot be read", expected="a certificate in PEM") from error
    try:
        key = load_pem_private_key(key_pem, password=None)
    except (*MALFORMED,) as error:
        hint = "decrypt it first: openssl pkey -in KEY -out PLAIN" if b"ENCRYPTED" in key_pem else ""
        raise ConfigurationError(
            "the user's private key cannot be read", expected="an unencrypted key in PEM", hint=hint
        ) from error
    if key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public:
        raise ConfigurationError("the user's certificate and private key do not belong together")
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return User(certificate.public_bytes(Encoding.PEM), Secret(plain))
