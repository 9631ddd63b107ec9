"""Deployments with users, and what tests do with them."""

from __future__ import annotations

import base64
import datetime as dt
import functools
import json
from typing import Any

from core_material import NOW, SIGNER_ID
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from confidential_bookstore.secret import Secret
from coordinator.deployment.deployment import Deployment
from coordinator.manifest.users import UserSpec
from coordinator.pki.authority import Authority

LATER = NOW + dt.timedelta(hours=1)


@functools.cache
def user_certificate(name: str) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=2))
        .not_valid_after(NOW - dt.timedelta(days=1))  # expired on purpose: a user's certificate is compared, no more
        .sign(key, hashes.SHA256())
    )


def user_pem(name: str) -> str:
    return user_certificate(name).public_bytes(serialization.Encoding.PEM).decode()


@functools.cache
def recovery_key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def recovery_pem(name: str) -> str:
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return recovery_key(name).public_key().public_bytes(*form).decode()


def package(version: int = 1) -> dict[str, Any]:
    return {"SignerID": SIGNER_ID, "ProductID": 3, "SecurityVersion": version}


def document(**changes: Any) -> dict[str, Any]:
    """Two packages, three types of marbles, secrets of all kinds, and users.

    alice, bob and carol may update everything, dave may raise the version of `shop`, erin may write `token` and read
    `token` and `shared`.
    """
    base: dict[str, Any] = {
        "Packages": {"shop": package(), "bank": package(5)},
        "Marbles": {
            "frontend": {
                "Package": "shop",
                "Parameters": {"Env": {"SHARED": "{{ hex .Secrets.shared }}", "CERT": "{{ pem .Secrets.tls.Cert }}"}},
            },
            "backend": {"Package": "shop", "Parameters": {"Env": {"OWN": "{{ hex .Secrets.own }}"}}},
            "teller": {"Package": "bank"},
        },
        "Secrets": {
            "shared": {"Type": "symmetric-key", "Size": 128, "Shared": True},
            "own": {"Type": "symmetric-key", "Size": 128},
            "tls": {"Type": "cert-ecdsa", "Size": 256, "Shared": True},
            "token": {"Type": "plain", "UserDefined": True},
            "key": {"Type": "symmetric-key", "Size": 64, "UserDefined": True},
            "uploaded": {"Type": "cert-ecdsa", "Size": 256, "UserDefined": True},
        },
        "Users": {
            **{name: {"Certificate": user_pem(name), "Roles": ["owner"]} for name in ("alice", "bob", "carol")},
            "dave": {"Certificate": user_pem("dave"), "Roles": ["shop-updater"]},
            "erin": {"Certificate": user_pem("erin"), "Roles": ["writer", "reader"]},
        },
        "Roles": {
            "owner": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
            "shop-updater": {
                "ResourceType": "Packages",
                "ResourceNames": ["shop"],
                "Actions": ["UpdateSecurityVersion"],
            },
            "writer": {
                "ResourceType": "Secrets",
                "ResourceNames": ["token", "key", "uploaded"],
                "Actions": ["WriteSecret"],
            },
            "reader": {"ResourceType": "Secrets", "ResourceNames": ["token", "shared"], "Actions": ["ReadSecret"]},
        },
        "Config": {"FeatureGates": ["MonotonicCounter"]},
    }
    return {name: section for name, section in (base | changes).items() if section is not None}


def raw(**changes: Any) -> bytes:
    return json.dumps(document(**changes)).encode()


@functools.cache
def new_authority() -> Authority:
    return Authority.create(dns_names=["localhost"], now=NOW)


def empty() -> Deployment:
    return Deployment.begin(new_authority(), Secret(bytes(range(32))))


def deployed(**changes: Any) -> Deployment:
    deployment, _ = empty().accept_manifest(raw(**changes), NOW)
    return deployment


def user(deployment: Deployment, name: str) -> UserSpec:
    return deployment.require_manifest().users[name]


def log_of(deployment: Deployment) -> list[dict[str, Any]]:
    return [json.loads(line) for line in deployment.update_log]


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()
