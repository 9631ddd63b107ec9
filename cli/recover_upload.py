"""`cbs recover upload`: give a coordinator in recovery mode one recovery secret."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.connecting import Target, connected
from cli.files import read_file
from cli.output import OutputFormat, OutputOption, show
from cli.recovery_options import NameOption, SecretArgument, read_key, read_secret
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.recovery import sign


def prepared(secret: Path, name: str, key: Path | None, signature: Path | None) -> tuple[bytes, bytes]:
    """Secret and signature to be uploaded.

    Raises:
        ConfigurationError: files cannot be read, or not exactly one of key and signature is given.
        RecoveryError: the secret is for another key.
    """
    if (key is None) == (signature is None):
        raise ConfigurationError("a recovery secret is signed", expected="--key or --signature, one of them")
    if key is not None:
        private = read_key(key)
        plain = read_secret(secret, name, private)
        return plain.reveal(), sign(plain, private)
    return read_secret(secret, name, None).reveal(), read_file(str(signature), "the signature")


@connected
def command(
    target: Target,
    secret: SecretArgument,
    *,
    key: Annotated[
        Path | None, typer.Option(help="The recovery key: decrypts and signs the secret here.", metavar="PEM")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option(help="Or what `cbs recover sign` made elsewhere.", metavar="FILE")
    ] = None,
    name: NameOption = "",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Upload one recovery secret. The coordinator, which has another root now, is verified by its quote first."""
    uploaded, signed = prepared(secret, name, key, signature)
    root = target.attest(any_root=True).coordinator.root
    remaining, message = CoordinatorApi(Connection(target.address, root)).recover(uploaded, signed)
    show({"Remaining": remaining, "Message": message}, output)
