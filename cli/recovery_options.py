"""What the recovery commands share: the secret in a file, and the recovery key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric import rsa

from cli.files import read_file
from confidential_bookstore.owner.recovery import decrypt, read_recovery_key, read_recovery_secret
from confidential_bookstore.secret import Secret

SecretArgument = Annotated[
    Path,
    typer.Argument(help="Recovery data as `manifest set` saves it, or one secret, base64 or binary.", metavar="SECRET"),
]
NameOption = Annotated[
    str, typer.Option(help="Which secret of the recovery data: the name of the recovery key.", metavar="NAME")
]
KeyOption = Annotated[Path, typer.Option(help="The recovery key: RSA, PEM, not encrypted.", metavar="PEM")]
OptionalKeyOption = Annotated[
    Path | None, typer.Option(help="The recovery key, if the secret is still encrypted.", metavar="PEM")
]


def read_key(path: Path) -> rsa.RSAPrivateKey:
    """See `read_recovery_key`."""
    return read_recovery_key(read_file(path, "the recovery key"))


def read_secret(path: Path, name: str, key: rsa.RSAPrivateKey | None) -> Secret[bytes]:
    """The secret in the file, decrypted if there is a key.

    Raises:
        ConfigurationError: there is none in it.
        RecoveryError: it is for another key.
    """
    secret = read_recovery_secret(read_file(path, "the recovery secret"), name)
    return decrypt(secret, key) if key else secret
