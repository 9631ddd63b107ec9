"""`cbs secret get`: values of secrets, for a user who may read them."""

from __future__ import annotations

import base64
import json
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from cli.connecting import Target, connected
from cli.files import OutOption, write_or_print
from cli.output import OutputFormat, OutputOption
from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import CoordinatorUnavailable, InvalidRequest
from confidential_bookstore.owner.answers import ReceivedSecret


def raw_value(secret: ReceivedSecret) -> bytes:
    """A symmetric key's or plain secret's bytes, or certificate and private key in PEM.

    Raises:
        CoordinatorUnavailable: certificate or key cannot be read.
    """
    if not secret.certificate:
        return secret.private.reveal()
    try:
        pem = x509.load_der_x509_certificate(secret.certificate).public_bytes(Encoding.PEM)
        if secret.private.reveal():
            key = load_der_private_key(secret.private.reveal(), password=None)
            pem += key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    except MALFORMED:
        raise CoordinatorUnavailable("the secret's certificate or key cannot be read") from None
    return pem


def as_text(name: str, secret: ReceivedSecret) -> str:
    """For people."""
    lines = [f"{name}:", f"  Type         {secret.kind}", f"  UserDefined  {'yes' if secret.user_defined else 'no'}"]
    if secret.size:
        lines.append(f"  Size         {secret.size}")
    if secret.certificate:
        lines += ["", raw_value(secret).decode().rstrip()]
    else:
        lines.append(f"  Value        {base64.b64encode(secret.private.reveal()).decode() or '-'}")
    return "\n".join(lines) + "\n"


def as_json(secret: ReceivedSecret) -> dict[str, object]:
    """For programs; bytes in base64, in MarbleRun's names."""
    return {
        "Type": secret.kind,
        "Size": secret.size,
        "UserDefined": secret.user_defined,
        "Cert": base64.b64encode(secret.certificate).decode(),
        "Private": base64.b64encode(secret.private.reveal()).decode(),
        "Public": base64.b64encode(secret.public.reveal()).decode(),
    }


@connected
def command(
    target: Target,
    names: Annotated[list[str], typer.Argument(help="Names of secrets.", metavar="NAME...")],
    raw: Annotated[
        bool, typer.Option("--raw", help="The value of one secret as it is; of a certificate, PEM with its key.")
    ] = False,
    out: OutOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Get secrets, as a user who may read all of them. Values are printed in base64, certificates and keys in PEM."""
    if raw and len(names) != 1:
        raise InvalidRequest("--raw is for one secret", got=f"{len(names)} names")
    secrets = target.api(as_user=True).secrets(names)
    if missing := [name for name in names if name not in secrets]:
        raise CoordinatorUnavailable("the coordinator's answer lacks secrets", got=", ".join(missing))
    if raw:
        content = raw_value(secrets[names[0]])
    elif output is OutputFormat.JSON:
        content = json.dumps({"Secrets": {name: as_json(secrets[name]) for name in names}}).encode() + b"\n"
    else:
        content = "\n".join(as_text(name, secrets[name]) for name in names).encode()
    write_or_print(content, out)
