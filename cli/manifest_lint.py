"""`cbs manifest lint`: would a coordinator take this manifest, and does it say what was meant?"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.manifest_file import read_manifest_file
from cli.output import OutputFormat, OutputOption, show


def check(raw: bytes, *, tolerant: bool) -> dict[str, str]:
    """What is legal but hardly meant, and what to do about it.

    Raises:
        ManifestError: a coordinator would refuse it.
    """
    from coordinator.manifest import load_manifest  # the coordinator's rules, which no other command needs
    from coordinator.manifest.lint import lint

    manifest = load_manifest(raw, tolerant=tolerant)
    # The warnings of a manifest are these findings, and what a tolerant reading has passed over.
    return dict.fromkeys(manifest.warnings, "") | {str(finding): finding.hint for finding in lint(manifest)}


def command(
    file: Annotated[Path, typer.Argument(help="The manifest, JSON or YAML.", metavar="FILE")],
    tolerant: Annotated[
        bool, typer.Option("--tolerant", help="Unknown and repeated keys are warnings, as for MarbleRun.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if there are warnings, too.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Check a manifest offline: every rule of the coordinator, a dry run of all templates, and advice.

    Exit code 1 if a coordinator would refuse it.
    """
    raw = read_manifest_file(file)
    warnings = check(raw, tolerant=tolerant)
    fingerprint = hashlib.sha256(raw).hexdigest()
    if output is OutputFormat.JSON:
        advice = [{"Warning": warning, "Hint": hint} for warning, hint in warnings.items()]
        sys.stdout.write(json.dumps({"ManifestFingerprint": fingerprint, "Warnings": advice}) + "\n")
    else:
        show({"ManifestFingerprint": fingerprint, "Warnings": len(warnings)}, output)
        texts = (f"{warning} ({hint})" if hint else warning for warning, hint in warnings.items())
        show({f"{number}.": text for number, text in enumerate(texts, 1)}, output)
    if strict and warnings:
        raise typer.Exit(1)
