"""`cbs manifest signature`: the fingerprint of a manifest in a file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from cli.manifest_file import read_manifest_file
from cli.output import OutputFormat, OutputOption, show


def command(
    file: Annotated[Path, typer.Argument(help="The manifest, JSON or YAML.", metavar="FILE")],
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Print the SHA-256 of the manifest in hex, offline. A coordinator with this manifest has this fingerprint."""
    fingerprint = hashlib.sha256(read_manifest_file(file)).hexdigest()
    if output is OutputFormat.JSON:
        show({"ManifestFingerprint": fingerprint}, output)
    else:
        typer.echo(fingerprint)
