"""Certificates of users, recovery keys, and a manifest that has every section."""

from __future__ import annotations

import base64
import datetime as dt
import functools
from typing import Any

from core_material import NOW, SIGNER_ID, document
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID


@functools.cache
def _certificate(name: str, *, ca: bool = False) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def user_pem(name: str) -> str:
    """The certificate of a user, the same at every call."""
    return _certificate(name).public_bytes(serialization.Encoding.PEM).decode()


def user_der(name: str) -> bytes:
    return _certificate(name).public_bytes(serialization.Encoding.DER)


def root_ca() -> x509.Certificate:
    """A root of evidence."""
    return _certificate("root of evidence", ca=True)


def root_ca_base64(encoding: serialization.Encoding) -> str:
    return base64.b64encode(root_ca().public_bytes(encoding)).decode()


@functools.cache
def recovery_pem(name: str, bits: int = 2048) -> str:
    return spki_pem(rsa.generate_private_key(65537, bits).public_key())


def spki_pem(key: Any) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def full(**changes: Any) -> dict[str, Any]:
    """A document with every section, which gives no warning."""
    return document(
        **{
            "Packages": {
                "shop": {
                    "SignerID": SIGNER_ID,
                    "ProductID": 3,
                    "SecurityVersion": 1,
                    "AcceptedAdvisories": ["INTEL-SA-00334"],
                }
            },
            "Infrastructures": {"cloud": {"QESVN": 2, "PCESVN": 3}},
            "Marbles": {
                "frontend": {
                    "Package": "shop",
                    "Parameters": {"Env": {"KEY": "{{ hex .Secrets.key }}"}, "Argv": ["./frontend"]},
                    "TLS": ["web"],
                }
            },
            "Secrets": {
                "key": {"Type": "symmetric-key", "Size": 128, "Shared": True},
                "tls": {"Type": "cert-ecdsa", "Size": 256, "UserDefined": True},
            },
            "Users": {
                "ada": {"Certificate": user_pem("ada"), "Roles": ["owner", "writer"]},
                "bob": {"Certificate": user_pem("bob"), "Roles": ["owner", "releaser", "reader"]},
            },
            "Roles": {
                "owner": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
                "releaser": {
                    "ResourceType": "Packages",
                    "ResourceNames": ["shop"],
                    "Actions": ["UpdateSecurityVersion"],
                },
                "reader": {"ResourceType": "Secrets", "ResourceNames": ["key", "tls"], "Actions": ["ReadSecret"]},
                "writer": {"ResourceType": "Secrets", "ResourceNames": ["tls"], "Actions": ["WriteSecret"]},
            },
            "RecoveryKeys": {name: recovery_pem(name) for name in ("ada", "bob", "eve")},
            "TLS": {
                "web": {
                    "Incoming": [{"Port": "8443", "Cert": "tls", "DisableClientAuth": True}, {"Port": "9000"}],
                    "Outgoing": [{"Addr": "store", "Port": "5432"}],
                }
            },
            "Config": {"FeatureGates": ["MonotonicCounter"], "RecoveryThreshold": 2},
        }
        | changes
    )
