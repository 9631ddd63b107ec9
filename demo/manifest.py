"""Assembles the manifest: marbles and secrets from `deploy/manifests`, packages from what was signed, and its owner.

A package names the signer, the product and the least security version, not the measurement: a rebuilt image of the same
signer is let in, an image that anybody else signed is not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confidential_bookstore.attestation.simulation.sigstruct import Sigstruct
from demo.owner_files import NAME as OWNER
from demo.owner_files import OwnerFiles


def build_manifest(folder: Path, sigstructs: Mapping[str, Sigstruct], owner: OwnerFiles) -> bytes:
    """The manifest as JSON bytes; their SHA-256 is its fingerprint.

    Args:
        folder: holds `marbles.json` and `access/<marble>.json`.
        sigstructs: the verified SIGSTRUCT of each package's image.
        owner: may update the manifest and recover the coordinator's state.
    """
    document: dict[str, Any] = json.loads((folder / "marbles.json").read_text())
    document["Packages"] = {
        name: {
            "SignerID": sigstruct.mr_signer.hex(),
            "ProductID": sigstruct.product_id,
            "SecurityVersion": sigstruct.security_version,
            "Debug": sigstruct.debug,
        }
        for name, sigstruct in sorted(sigstructs.items())
    }
    document["Users"] = {OWNER: {"Certificate": owner.user_certificate().decode(), "Roles": ["manifest", "versions"]}}
    document["Roles"] = {
        "manifest": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
        "versions": {
            "ResourceType": "Packages",
            "ResourceNames": sorted(sigstructs),
            "Actions": ["UpdateSecurityVersion"],
        },
    }
    document["RecoveryKeys"] = {OWNER: owner.recovery_key().decode()}
    for name, marble in document["Marbles"].items():
        rules = json.loads((folder / "access" / f"{name}.json").read_text())
        environment = marble["Parameters"]["Env"]
        environment["MARBLE_ACCESS_RULES"] = {"Data": json.dumps(rules), "NoTemplates": True}
    return json.dumps(document, indent=2, sort_keys=True).encode()
