"""`cbs recover sign`: the signature that goes with a recovery secret, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.files import write_file
from cli.output import OutputFormat, OutputOption, show
from cli.recovery_options import KeyOption, NameOption, SecretArgument, read_key, read_secret
from confidential_bookstore.owner.recovery import sign


def command(
    secret: SecretArgument,
    *,
    key: KeyOption,
    out: Annotated[Path, typer.Option(help="Where the signature goes.", metavar="FILE")],
    name: NameOption = "",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Sign a recovery secret (decrypted first if it needs to be) with the recovery key."""
    private = read_key(key)
    write_file(out, sign(read_secret(secret, name, private), private))
    show({"Signature": out}, output)
