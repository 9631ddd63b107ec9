"""`cbs manifest acknowledge`: agree to the pending update."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import recovery_data
from cli.connecting import Target, connected
from cli.manifest_file import read_manifest_file
from cli.manifest_update import describe
from cli.output import OutputFormat, OutputOption, show, waiting
from cli.recovery_data import RecoveryDataOption


@connected
def command(
    target: Target,
    file: Annotated[Path, typer.Argument(help="The very manifest that is pending, JSON or YAML.", metavar="FILE")],
    recovery_file: RecoveryDataOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Acknowledge the pending update, as a user. The last one that is needed applies it."""
    raw = read_manifest_file(file)
    api = target.api(as_user=True)
    with recovery_data.reserved(recovery_file) as reserved:
        with waiting("acknowledging the update"):
            answer = api.acknowledge(raw)
        saved = recovery_data.describe(answer.recovery_secrets, recovery_file, reserved)
        show({**describe(answer), "Message": answer.message, **saved}, output)
