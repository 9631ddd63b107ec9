"""`cbs recover decrypt`: a recovery secret in plain, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.files import write_file
from cli.output import OutputFormat, OutputOption, show
from cli.recovery_options import KeyOption, NameOption, SecretArgument, read_key, read_secret


def command(
    secret: SecretArgument,
    *,
    key: KeyOption,
    out: Annotated[Path, typer.Option(help="Where the plain secret goes, mode 0600.", metavar="FILE")],
    name: NameOption = "",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Decrypt a recovery secret. Guard the result: enough of them open the coordinator's sealed state."""
    write_file(out, read_secret(secret, name, read_key(key)).reveal())
    show({"Secret": out}, output)
