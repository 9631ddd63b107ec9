"""A folder with all that a verdict on a deployment rests on, for somebody who checks it offline and trusts nobody here.

    quote.bin         the quote, bare          nonce.bin         in its report data, with the root certificate
    collateral.json   QuoteCollateralV3        trust_root.pem    the root of the quote: Intel's, or a simulated one
    root.pem          the coordinator's root   intermediate.pem  signed by it; signs the certificates of marbles
    manifest.json     the manifest, its bytes  manifest.sig      the root's signature: ECDSA, SHA-256, DER
    policy.json       the code expected        verdict.json      time, claims, fingerprints, SHA-256 of the files above

`docs/verify_evidence.py` checks such a folder with nothing but openssl and dcap-qvl.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.answers import SignedManifest
from confidential_bookstore.owner.verification import AttestedCoordinator

FORMAT = "confidential-bookstore-evidence-1"


def evidence_files(attested: AttestedCoordinator, manifest: SignedManifest) -> dict[str, bytes]:
    """The files by name."""
    files = {
        "quote.bin": attested.quote,
        "nonce.bin": attested.nonce,
        "collateral.json": attested.collateral.to_json().encode(),
        "trust_root.pem": attested.trust_root_pem,
        "root.pem": attested.coordinator.root.public_bytes(Encoding.PEM),
        "intermediate.pem": attested.coordinator.intermediate.public_bytes(Encoding.PEM),
        "manifest.json": manifest.raw,
        "manifest.sig": manifest.signature,
        "policy.json": attested.policy.raw,
    }
    verdict = {
        "format": FORMAT,
        "time": attested.time,
        "claims": _claims(attested),
        "manifestFingerprint": manifest.fingerprint,
        "rootFingerprint": attested.coordinator.root.fingerprint(SHA256()).hex(),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "versions": {name: importlib.metadata.version(name) for name in ("confidential-bookstore", "dcap-qvl")},
    }
    return {**files, "verdict.json": (json.dumps(verdict, indent=2) + "\n").encode()}


def write_evidence(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files, mode 0600, into a folder that is new or empty: evidence is never mixed.

    Raises:
        ConfigurationError: the folder has files already, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise ConfigurationError("the evidence folder is not empty", got=folder, hint="give a new one")
        for name, content in files.items():
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
    except OSError as error:
        raise ConfigurationError("evidence cannot be written", got=f"{folder}: {error.strerror}") from error


def _claims(attested: AttestedCoordinator) -> dict[str, object]:
    claims = dataclasses.asdict(attested.claims) | {"simulated": attested.claims.simulated}
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in claims.items()}
