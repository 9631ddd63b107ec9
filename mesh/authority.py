"""The mesh's certificate authority: service certificates that live a day and say `name.namespace.cluster.local`.

A mesh identity comes from here and never from the caller. It is the host's authority: whoever has the host has its key.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.smi.model import Account
from confidential_bookstore.secret import Secret
from mesh.private_files import write_private

LIFETIME = dt.timedelta(hours=24)
_ROOT_LIFETIME = dt.timedelta(days=3650)
_SKEW = dt.timedelta(minutes=5)  # clocks differ
_NAME = "bookstore mesh"
_CERTIFICATE, _KEY = "authority.pem", "authority-key.pem"


@dataclass(frozen=True, slots=True)
class ServiceCertificate:
    """A sidecar's certificate in PEM. It is to be renewed at `renew_at`, and ends at `not_after` (Unix seconds)."""

    chain_pem: bytes
    key_pem: Secret[bytes]
    renew_at: float
    not_after: float


class MeshAuthority:
    """Issues certificates below one root. `root_pem` is that root."""

    def __init__(self, root: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._root = root
        self._key = key
        self.root_pem = root.public_bytes(Encoding.PEM)

    @classmethod
    def create(cls, now: dt.datetime) -> MeshAuthority:
        """A new one."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
        builder = _builder(name, name, key.public_key(), now, _ROOT_LIFETIME)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(ca=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load_or_create(cls, folder: Path, now: dt.datetime) -> MeshAuthority:
        """The one whose files are in a folder; they are made on first use, the key with mode 0600.

        Raises:
            ConfigurationError: the files cannot be read or do not belong together.
        """
        certificate, key_file = folder / _CERTIFICATE, folder / _KEY
        if not certificate.exists():
            made = cls.create(now)
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(key_file, _private(made._key))  # noqa: SLF001  # its own class
            write_private(certificate, made.root_pem)
        try:
            root = x509.load_pem_x509_certificate(certificate.read_bytes())
            key = load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise ConfigurationError("the mesh's authority cannot be read", got=f"{folder}: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != root.public_key():
            raise ConfigurationError(
                "the mesh's key is not its certificate's", got=key_file, hint="remove both to make new ones"
            )
        return cls(root, key)

    def issue(self, account: Account, now: dt.datetime, lifetime: dt.timedelta = LIFETIME) -> ServiceCertificate:
        """A new certificate with a new key, for server and client."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, account.principal[:64])])
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = _builder(name, self._root.subject, key.public_key(), now, lifetime)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(account.principal)]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(ca=False), critical=True)
        builder = builder.add_extension(usages, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        return ServiceCertificate(
            certificate.public_bytes(Encoding.PEM),
            Secret(_private(key)),
            renew_at=(now + lifetime * 2 / 3).timestamp(),
            not_after=(now + lifetime).timestamp(),
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    return builder.not_valid_before(now - _SKEW).not_valid_after(now + lifetime)


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
