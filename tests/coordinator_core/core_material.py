"""Manifests, requests and times that the tests of this folder share."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.manifest import Manifest, load_manifest

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
TRUST_DOMAIN = "marbles.internal"
SIGNER_ID = "5f" * 32
UNIQUE_ID = "a1" * 32


def document(**changes: Any) -> dict[str, Any]:
    """A small valid manifest; `changes` replace whole sections, None takes one out."""
    base: dict[str, Any] = {
        "Packages": {"shop": {"SignerID": SIGNER_ID, "ProductID": 3, "SecurityVersion": 1}},
        "Marbles": {"frontend": {"Package": "shop"}},
    }
    return {name: section for name, section in (base | changes).items() if section is not None}


def raw(**changes: Any) -> bytes:
    return json.dumps(document(**changes)).encode()


def load(**changes: Any) -> Manifest:
    return load_manifest(raw(**changes))


def load_with(
    *,
    files: dict[str, Any] | None = None,
    env: dict[str, Any] | None = None,
    secrets: dict[str, Any] | None = None,
    **marble: Any,
) -> Manifest:
    """A manifest whose one marble type `frontend` has these parameters."""
    parameters = {"Files": files or {}, "Env": env or {}}
    return load(
        Marbles={"frontend": {"Package": "shop", "Parameters": parameters} | marble, "backend": {"Package": "shop"}},
        Secrets=secrets or {},
    )


def request(*names: str | x509.GeneralName, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """A PKCS#10 request as a marble makes it: empty subject, P-384; names are DNS names, addresses or ready made."""
    general: list[x509.GeneralName] = []
    for name in names:
        if isinstance(name, x509.GeneralName):
            general.append(name)
            continue
        try:
            general.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    signed = builder.sign(key or ec.generate_private_key(ec.SECP384R1()), hashes.SHA384())
    return signed.public_bytes(serialization.Encoding.DER)
