"""Puts a manifest together: marbles and secrets as written, packages from what was signed, policy, and its owners.

It has only what an original MarbleRun coordinator knows, too. A package names the signer, the product and the least
security version, not the measurement: a rebuilt image of the same signer is let in, anybody else's is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from confidential_bookstore.attestation.simulation.sigstruct import Sigstruct
from confidential_bookstore.errors import ManifestError
from confidential_bookstore.owner.policy_update import ACCESS_RULES, TRAFFIC_SPLITS, to_bytes, with_policy
from confidential_bookstore.policy.smi.model import Documents

UPDATERS, VERSIONS = "manifest", "versions"  # roles


def package_of(signed: Sigstruct) -> dict[str, object]:
    """The package that lets this enclave in, and newer ones of its signer."""
    return {
        "SignerID": signed.mr_signer.hex(),
        "ProductID": signed.product_id,
        "SecurityVersion": signed.security_version,
        "Debug": signed.debug,
    }


def build_manifest(
    marbles: Mapping[str, Any],
    documents: Documents,
    packages: Mapping[str, Mapping[str, object]],
    *,
    users: Mapping[str, str] | None = None,
    recovery_keys: Mapping[str, str] | None = None,
) -> bytes:
    """The manifest as JSON; the same arguments give the same bytes, whose SHA-256 is the manifest's fingerprint.

    Args:
        marbles: the content of `marbles.json`: `Marbles`, `Secrets`, and any other section that a manifest may have.
        documents: who may call whom, and which marbles there are.
        packages: by name, see `package_of`; those that no marble has are left out.
        users: certificates in PEM by name. They may update the manifest and raise security versions.
        recovery_keys: public keys in PEM by name.

    Raises:
        ManifestError: a package is missing, something is said twice, or the registry has other marbles.
    """
    for name, marble in (marbles.get("Marbles") or {}).items():
        _check_marble(name, marble, packages)
    manifest = with_policy(marbles, documents)
    used = sorted({marble["Package"] for marble in manifest["Marbles"].values()})
    _add(manifest, "Packages", {name: dict(packages[name]) for name in used if name in packages})
    if users:
        roles = [UPDATERS, VERSIONS]
        _add(manifest, "Users", {name: {"Certificate": pem, "Roles": roles} for name, pem in users.items()})
        versions = {"ResourceType": "Packages", "ResourceNames": used, "Actions": ["UpdateSecurityVersion"]}
        update = {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]}
        _add(manifest, "Roles", {UPDATERS: update, VERSIONS: versions})
    if recovery_keys:
        _add(manifest, "RecoveryKeys", dict(recovery_keys))
    return to_bytes(manifest)


def _check_marble(name: str, marble: Any, packages: Mapping[str, object]) -> None:
    package = marble.get("Package") if isinstance(marble, dict) else None
    if not isinstance(package, str):
        raise ManifestError(f"Marbles.{name}: names no package", expected='{"Package": NAME}')
    if package not in packages:
        raise ManifestError(
            f"Marbles.{name}.Package: there is no signed enclave of this name",
            got=package,
            expected=", ".join(sorted(packages)) or "a package",
            hint="sign it: `cbs enclave sign`",
        )
    environment = (marble.get("Parameters") or {}).get("Env") or {}
    for variable in (ACCESS_RULES, TRAFFIC_SPLITS):
        if variable in environment:
            raise ManifestError(
                f"Marbles.{name}.Parameters.Env.{variable}: it comes from the policy's documents", hint="take it out"
            )


def _add(manifest: dict[str, Any], section: str, entries: Mapping[str, object]) -> None:
    present = manifest.setdefault(section, {})
    if twice := sorted(present.keys() & entries.keys()):
        raise ManifestError(f"{section}.{twice[0]}: it is there already", hint="take it out of the file with marbles")
    present.update(entries)
