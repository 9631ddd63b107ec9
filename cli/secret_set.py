"""`cbs secret set`: give the coordinator values of user-defined secrets."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from cli.connecting import Target, connected
from cli.files import read_file
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import ConfigurationError

_FIELDS = {"cert": "Cert", "private": "Private", "key": "Key"}


def read_secrets(raw: bytes) -> dict[str, dict[str, str]]:
    """`{NAME: {"Key": base64}}` for keys and plain secrets, `{NAME: {"Cert": base64 DER, "Private": base64}}` else.

    Raises:
        ConfigurationError: it is something else. Values are never shown.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise ConfigurationError("the secrets are not JSON") from None
    if not isinstance(document, dict) or not document:
        raise ConfigurationError("the secrets have the wrong form", expected='{NAME: {"Key": base64}}')
    return {name: _fields(name, fields) for name, fields in document.items()}


def from_pem(name: str, raw: bytes) -> dict[str, dict[str, str]]:
    """A certificate secret from a PEM file with a certificate and, perhaps, its private key.

    Raises:
        ConfigurationError: there is no certificate, or a key that cannot be read or is not the certificate's.
    """
    try:
        certificate = x509.load_pem_x509_certificates(raw)[0]
        private = b""
        if b"PRIVATE KEY-----" in raw:
            key = load_pem_private_key(raw[_private_start(raw) :], password=None)
            if key.public_key() != certificate.public_key():
                raise ConfigurationError("certificate and private key do not belong together")
            private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    except (*MALFORMED, IndexError):
        raise ConfigurationError(
            "the PEM file cannot be read", expected="a certificate, and perhaps its private key, not encrypted"
        ) from None
    fields = {"Cert": _base64(certificate.public_bytes(Encoding.DER))}
    return {name: fields | ({"Private": _base64(private)} if private else {})}


def _private_start(raw: bytes) -> int:
    return raw.rindex(b"-----BEGIN", 0, raw.index(b"PRIVATE KEY-----"))


def _fields(name: str, fields: Any) -> dict[str, str]:
    expected = "Key, or Cert and Private, in base64"
    if not isinstance(fields, dict) or not {str(field).lower() for field in fields} <= set(_FIELDS) or not fields:
        raise ConfigurationError(f"secret {name} has the wrong form", expected=expected)
    for value in fields.values():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise ConfigurationError(f"a value of secret {name} is not base64", expected=expected) from None
    return {_FIELDS[field.lower()]: value for field, value in fields.items()}


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@connected
def command(
    target: Target,
    file: Annotated[Path, typer.Argument(help='{NAME: {"Key": base64}}, or PEM with --from-pem.', metavar="FILE")],
    pem_name: Annotated[
        str, typer.Option("--from-pem", help="The file is PEM, for the secret of this name.", metavar="NAME")
    ] = "",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Set user-defined secrets, as a user who may write all of them."""
    raw = read_file(file, "the secrets")
    secrets = from_pem(pem_name, raw) if pem_name else read_secrets(raw)
    target.api(as_user=True).set_secrets(secrets)
    show({"Set": sorted(secrets)}, output)
