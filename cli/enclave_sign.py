"""`cbs enclave sign`: build the image of a service, measure it and sign it."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives import serialization

from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.signing import find_project_root, sign_enclave
from confidential_bookstore.errors import ConfigurationError


def sign(
    config: Path, key: Path, *, trust_root: Path | None, out: Path, new_key: bool, date: dt.date
) -> dict[str, object]:
    """Do the work; what is returned is what the command prints.

    Raises:
        ConfigurationError: a file cannot be read or written, or is not what it should be.
        EnclaveError: the enclave cannot be measured.
    """
    if new_key:
        create_signing_key(key)
    try:
        signing_key = sigstruct.load_signing_key(key.read_bytes())
        trust_root_pem = trust_root.read_bytes() if trust_root else b""
    except OSError as error:
        raise ConfigurationError("cannot read a file", got=str(error), hint="--new-key makes a key") from error
    enclave = sign_enclave(config, find_project_root(config), signing_key, trust_root_pem, date=date)
    signed = sigstruct.parse(enclave.signature)
    return {
        "Image": enclave.write(out),
        "UniqueID": signed.mr_enclave.hex(),
        "SignerID": signed.mr_signer.hex(),
        "ProductID": signed.product_id,
        "SecurityVersion": signed.security_version,
        "Debug": signed.debug,
    }


def create_signing_key(path: Path) -> None:
    """Write a new signing key, mode 0600.

    Raises:
        ConfigurationError: the file exists, or cannot be written.
    """
    pem = sigstruct.new_signing_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError as error:
        raise ConfigurationError("there is a key already", got=path, hint="leave --new-key out to use it") from error
    except OSError as error:
        raise ConfigurationError("cannot write the signing key", got=str(error)) from error


def command(
    config: Annotated[Path, typer.Argument(help="The service's enclave.json.", metavar="CONFIG")],
    *,
    key: Annotated[Path, typer.Option(help="Signing key in PEM: RSA-3072 with exponent 3.", metavar="KEY.pem")],
    trust_root: Annotated[
        Path | None,
        typer.Option(help="The root certificate the enclave shall pin; without it, Intel's.", metavar="ROOT.pem"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where NAME.enclave and NAME.sig go.", metavar="DIR")] = Path(),
    new_key: Annotated[bool, typer.Option("--new-key", help="Make the signing key first.")] = False,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Build, measure and sign an enclave."""
    today = dt.datetime.now(dt.UTC).date()
    show(sign(config, key, trust_root=trust_root, out=out, new_key=new_key, date=today), output)
