"""`cbs manifest set`: give a verified coordinator its first manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from cli import recovery_data
from cli.connecting import Target, connected
from cli.manifest_file import read_manifest_file
from cli.output import OutputFormat, OutputOption, show, waiting
from cli.recovery_data import RecoveryDataOption
from cli.verify import require_manifest
from confidential_bookstore.errors import StateError
from confidential_bookstore.owner.answers import RECOVERY, SignedManifest
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection

_ACCEPTING_MANIFEST = 2


def set_manifest(
    target: Target, raw: bytes, path: Path | None, file: BinaryIO | None, *, discard_state: bool
) -> dict[str, object]:
    """Do the work; what is returned is what the command prints.

    Raises:
        ConfigurationError, CoordinatorUntrusted, CoordinatorUnavailable: see `Target.api`.
        StateError: the coordinator is in recovery mode, or has a manifest already.
        CoordinatorRefused: it does not accept the manifest.
    """
    if discard_state:
        root = target.attest(any_root=True).coordinator.root
        api = CoordinatorApi(Connection(target.address, root))
    else:
        api = target.api(fresh=True)
    status = api.status()
    if status.code == RECOVERY and not discard_state:
        raise StateError(
            "the coordinator is in recovery mode; a manifest would destroy its state for good",
            hint="recover it (`cbs recover upload`), or give --discard-state if nothing in it is needed",
        )
    if status.code not in (RECOVERY, _ACCEPTING_MANIFEST):
        raise StateError(
            "the coordinator has a manifest already",
            hint="`cbs manifest verify FILE` compares them, `cbs manifest update FILE` changes it",
        )
    with waiting("setting the manifest"):
        secrets = api.set_manifest(raw)
    saved = recovery_data.describe(secrets, path, file)
    if discard_state:
        target.pin(api.connection.root)
    expected = SignedManifest(raw, b"").fingerprint
    require_manifest(api.manifest(), expected)
    return {"ManifestFingerprint": expected, **saved}


@connected
def command(
    target: Target,
    file: Annotated[Path, typer.Argument(help="The manifest, JSON or YAML.", metavar="FILE")],
    recovery_file: RecoveryDataOption = None,
    discard_state: Annotated[
        bool, typer.Option("--discard-state", help="In recovery mode: give up the sealed state for ever.")
    ] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Verify the coordinator, give it the manifest, and check that this one is in force."""
    raw = read_manifest_file(file)
    with recovery_data.reserved(recovery_file) as reserved:
        show(set_manifest(target, raw, recovery_file, reserved, discard_state=discard_state), output)
