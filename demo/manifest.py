"""The demo's manifest: marbles and secrets of `deploy/manifests`, signed packages, its owner and that one's policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from confidential_bookstore.attestation.simulation.sigstruct import Sigstruct
from confidential_bookstore.owner.manifest_building import build_manifest, package_of
from confidential_bookstore.policy.smi.reading import read_folder
from demo.owner_files import NAME as OWNER
from demo.owner_files import OwnerFiles


def manifest_of(folder: Path, sigstructs: Mapping[str, Sigstruct], owner: OwnerFiles) -> bytes:
    """The manifest as JSON bytes; their SHA-256 is its fingerprint.

    Args:
        folder: holds `marbles.json`, and `smi`, which is the owner's policy to begin with.
        sigstructs: the verified SIGSTRUCT of each package's image.
        owner: may update the manifest and recover the coordinator's state, and says who may call what.

    Raises:
        PolicyError: the owner's policy breaks a rule.
        ManifestError: it does not fit to the marbles.
    """
    return build_manifest(
        json.loads((folder / "marbles.json").read_text()),
        read_folder(owner.policy(folder / "smi")),
        {name: package_of(sigstruct) for name, sigstruct in sigstructs.items()},
        users={OWNER: owner.user_certificate().decode()},
        recovery_keys={OWNER: owner.recovery_key().decode()},
    )
