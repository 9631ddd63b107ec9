"""`cbs manifest get`: the manifest in force."""

from __future__ import annotations

import base64
import json
from typing import Annotated

import typer

from cli.connecting import Target, connected
from cli.files import OutOption, write_or_print
from cli.output import OutputFormat, OutputOption
from confidential_bookstore.owner.effective import effective_manifest


def get(target: Target, output: OutputFormat, *, display_update: bool) -> bytes:
    """What the command prints: the manifest's own bytes, or JSON.

    Raises:
        ConfigurationError, CoordinatorUntrusted, CoordinatorUnavailable: see `Target.api`.
        CoordinatorRefused: there is no manifest.
    """
    api = target.api()
    manifest = api.manifest()
    # In this order: a log that is newer than the manifest shows itself.
    document = effective_manifest(manifest, api.update_log()) if display_update else None
    if output is OutputFormat.TEXT:
        return (
            manifest.raw if document is None else (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
        )
    described = {
        "ManifestFingerprint": manifest.fingerprint,
        "ManifestSignature": base64.b64encode(manifest.signature).decode(),
        "Manifest": json.loads(manifest.raw) if document is None else document,
    }
    return (json.dumps(described) + "\n").encode()


@connected
def command(
    target: Target,
    display_update: Annotated[
        bool, typer.Option("--display-update", "-u", help="With the SecurityVersions that are in force now.")
    ] = False,
    out: OutOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Get the manifest, its signature by the root checked: byte for byte as it was set, or as JSON with signature."""
    write_or_print(get(target, output, display_update=display_update), out)
