"""`cbs verify`: is it the right code, and the right manifest? And a folder by which others can say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.hashes import SHA256

from cli.connecting import Target, connected
from cli.manifest_file import expected_fingerprint
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.attestation.refusals import date
from confidential_bookstore.errors import CoordinatorUntrusted
from confidential_bookstore.owner.answers import SignedManifest
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.evidence import evidence_files, write_evidence
from confidential_bookstore.owner.verification import AttestedCoordinator


def verify(target: Target, expected: str, evidence: Path | None) -> dict[str, object]:
    """Do the work; what is returned is what the command prints.

    Args:
        target: which coordinator.
        expected: fingerprint of the manifest; empty if any will do.
        evidence: where evidence goes.

    Raises:
        ConfigurationError: something is missing to verify it with, or the folder cannot be written.
        CoordinatorUntrusted: coordinator or manifest is not the expected one.
        CoordinatorUnavailable: it, or collateral, cannot be reached.
        CoordinatorRefused: it has no manifest.
    """
    attested = target.attest()
    manifest = CoordinatorApi(Connection(target.address, attested.coordinator.root)).manifest()
    require_manifest(manifest, expected)
    if evidence is not None:
        write_evidence(evidence, evidence_files(attested, manifest))
    return {"Verdict": "verified", "Coordinator": target.address, **_describe(attested, manifest), "Evidence": evidence}


def require_manifest(manifest: SignedManifest, expected: str) -> None:
    """The manifest in force is the expected one, or any if `expected` is empty.

    Raises:
        CoordinatorUntrusted: it is another one.
    """
    if expected not in ("", manifest.fingerprint):
        raise CoordinatorUntrusted(
            "another manifest is in force",
            got=manifest.fingerprint,
            expected=expected,
            hint="compare with `cbs manifest get`, and see `cbs manifest log` for who changed it",
        )


def _describe(attested: AttestedCoordinator, manifest: SignedManifest) -> dict[str, object]:
    claims = attested.claims
    return {
        "TEE": f"{claims.tee}, simulated" if claims.simulated else claims.tee,
        "UniqueID": claims.unique_id,
        "SignerID": claims.signer_id,
        "ProductID": claims.product_id,
        "SecurityVersion": claims.security_version,
        "TCBStatus": claims.tcb_status,
        "Advisories": claims.advisories,
        "RootSHA256": attested.coordinator.root.fingerprint(SHA256()).hex(),
        "ManifestFingerprint": manifest.fingerprint,
        "ValidUntil": date(claims.expires),
    }


@connected
def command(
    target: Target,
    manifest: Annotated[
        str, typer.Option(help="The manifest that must be in force: a file, or its fingerprint.", metavar="FILE|HEX")
    ] = "",
    evidence: Annotated[
        Path | None, typer.Option(help="A new folder for evidence that others can check offline.", metavar="DIR")
    ] = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Verify code and manifest of a coordinator, with a quote over a fresh nonce.

    Exit code 0: verified, 1: refused, 2: unreachable, 3: wrong use.
    """
    show(verify(target, expected_fingerprint(manifest) if manifest else "", evidence), output)
