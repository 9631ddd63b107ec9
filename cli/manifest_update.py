"""`cbs manifest update`: propose a new manifest, or raise SecurityVersions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import recovery_data
from cli.connecting import Target, connected
from cli.manifest_file import read_manifest_file
from cli.output import OutputFormat, OutputOption, show, waiting
from cli.recovery_data import RecoveryDataOption
from confidential_bookstore.owner.answers import UpdateAnswer

PENDING, APPLIED = "pending", "applied"


def describe(answer: UpdateAnswer) -> dict[str, object]:
    """What has become of an update."""
    if answer.missing_acknowledgments:
        return {
            "Update": PENDING,
            "MissingAcknowledgments": answer.missing_acknowledgments,
            "MayAcknowledge": answer.missing_users,
        }
    return {"Update": APPLIED}


@connected
def command(
    target: Target,
    file: Annotated[Path, typer.Argument(help="JSON or YAML.", metavar="FILE")],
    recovery_file: RecoveryDataOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Update the manifest, as a user. A file that has Packages with SecurityVersions only raises these.

    A full manifest takes effect when enough users have acknowledged it, which may be at once.
    """
    raw = read_manifest_file(file)
    api = target.api(as_user=True)
    with recovery_data.reserved(recovery_file) as reserved:
        with waiting("updating the manifest"):
            answer = api.update(raw)
        saved = recovery_data.describe(answer.recovery_secrets, recovery_file, reserved)
        show({**describe(answer), **saved}, output)
