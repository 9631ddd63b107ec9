"""`cbs recover encrypt`: a recovery secret for one coordinator only, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.files import read_file, write_file
from cli.output import OutputFormat, OutputOption, show
from cli.recovery_options import NameOption, OptionalKeyOption, SecretArgument, read_key, read_secret
from confidential_bookstore.owner.recovery import encrypt, read_coordinator_key


def command(
    secret: SecretArgument,
    *,
    coordinator_key: Annotated[Path, typer.Option(help="What `cbs recover public-key` gave.", metavar="PEM")],
    out: Annotated[Path, typer.Option(help="Where the encrypted secret goes.", metavar="FILE")],
    key: OptionalKeyOption = None,
    name: NameOption = "",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Encrypt a recovery secret for the coordinator, so that it can travel on untrusted media."""
    plain = read_secret(secret, name, read_key(key) if key else None)
    recipient = read_coordinator_key(read_file(coordinator_key, "the coordinator's public key"))
    write_file(out, encrypt(plain, recipient))
    show({"EncryptedSecret": out}, output)
