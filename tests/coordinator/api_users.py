"""Users of the client API, with certificates of their own, and a manifest that knows them."""

from __future__ import annotations

import datetime as dt
import functools
import ssl
import tempfile
from dataclasses import dataclass
from typing import Any

from coordinators import manifest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class ApiUser:
    """A key and its self-signed certificate."""

    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, name: str, *, expired: bool = False) -> ApiUser:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        end = dt.datetime.now(dt.UTC) + dt.timedelta(days=-1 if expired else 1)
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(end - dt.timedelta(days=30)).not_valid_after(end)
        return cls(name, key, builder.sign(key, hashes.SHA256()))

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def tls(self) -> ssl.SSLContext:
        key = self.key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return showing(self.pem.encode() + key)


def showing(pem: bytes) -> ssl.SSLContext:
    """Shows the certificates and the key in `pem` and believes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


@functools.cache
def api_user(name: str) -> ApiUser:
    """Carol's certificate has expired: for users that does not matter."""
    return ApiUser.create(name, expired=name == "carol")


@functools.cache
def recovery_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def recovery_public_pem(name: str) -> str:
    public = recovery_key(name).public_key()
    return public.public_bytes(Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


ROLES = {
    "versions": {"ResourceType": "Packages", "ResourceNames": ["bookstore"], "Actions": ["UpdateSecurityVersion"]},
    "owner": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
    "secrets": {
        "ResourceType": "Secrets",
        "ResourceNames": ["uploaded", "note", "badge"],
        "Actions": ["ReadSecret", "WriteSecret"],
    },
    "reader": {"ResourceType": "Secrets", "ResourceNames": ["shared", "certificate"], "Actions": ["ReadSecret"]},
}
USERS = {"alice": ["versions", "owner", "secrets", "reader"], "bob": ["owner"], "carol": ["secrets"]}
SECRETS = {
    "shared": {"Type": "symmetric-key", "Size": 256, "Shared": True},
    "own": {"Type": "symmetric-key", "Size": 128},
    "certificate": {"Type": "cert-ecdsa", "Size": 256, "Shared": True, "ValidFor": 7},
    "uploaded": {"Type": "symmetric-key", "Size": 128, "UserDefined": True},
    "note": {"Type": "plain", "UserDefined": True},
    "badge": {"Type": "cert-ecdsa", "Size": 256, "UserDefined": True},
}


def manifest_of_users(**changes: Any) -> bytes:
    """Alice may do everything, Bob acknowledges, Carol has the uploaded secrets; `changes` replace sections."""
    users = {name: {"Certificate": api_user(name).pem, "Roles": roles} for name, roles in USERS.items()}
    return manifest(**({"Users": users, "Roles": ROLES, "Secrets": SECRETS} | changes))
