"""Recovery data in the hands of commands: what the coordinator gives out once, encrypted for the recovery keys."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from cli.files import reserved

__all__ = ["RecoveryDataOption", "describe", "reserved"]

RecoveryDataOption = Annotated[
    Path | None,
    typer.Option(
        "--recovery-data", help="A new file for the recovery data; without it, it is printed.", metavar="FILE"
    ),
]


def describe(secrets: Mapping[str, bytes], path: Path | None, file: BinaryIO | None) -> dict[str, object]:
    """Save it in the file, or return it to be printed: it is said only once."""
    if not secrets:
        return {"RecoveryData": None}
    encoded = {name: base64.b64encode(secret).decode() for name, secret in secrets.items()}
    if file is None:
        return {"RecoveryData": encoded}
    file.write(json.dumps({"RecoverySecrets": encoded}).encode() + b"\n")
    return {"RecoveryData": path}
