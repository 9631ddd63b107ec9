"""MarbleRun's own functions: the encodings of secrets.

`hex`, `base64` and `raw` take Cert, Private or Public of a secret; a whole secret stands for its Public, which for a
symmetric key or a plain secret is the value. Source of the words of the errors: the original coordinator's.
"""

from __future__ import annotations

import base64
import binascii

from coordinator.manifest.template.values import Certificate, Key, Nil, Unsuitable, Value, WholeSecret
from coordinator.pki.pem import pem_block
from coordinator.secret_value import SecretType


def pem(value: Value) -> bytes:
    """A PEM block of Cert, Private or Public."""
    match value:
        case Certificate():
            data, label = value.der.reveal(), "CERTIFICATE"
        case Key():
            data, label = value.value.reveal(), value.pem_label
        case Nil():
            data, label = secret_bytes(value), ""
        case _:
            raise Unsuitable("invalid secret type for pem encoding", "for example: pem .Secrets.name.Cert")
    return pem_block(label, _not_empty(data))


def hexadecimal(value: Value) -> bytes:
    """Lower-case hex digits."""
    return binascii.hexlify(secret_bytes(value))


def base_64(value: Value) -> bytes:
    """Base64 with padding, in one line."""
    return base64.b64encode(secret_bytes(value))


def string(value: Value) -> bytes:
    """The text of a plain secret, for an environment variable."""
    if isinstance(value, Nil):
        secret_bytes(value)
    if not isinstance(value, WholeSecret) or value.value is None or value.value.type is not SecretType.PLAIN:
        raise Unsuitable("needs a secret of type plain", "use hex or base64 for other secrets")
    data = secret_bytes(value)
    if b"\0" in data:
        raise Unsuitable("secret contains null bytes", "an environment variable cannot have them")
    return data


def secret_bytes(value: Value) -> bytes:
    """The bytes of a part of a secret, or of a whole one: `raw`.

    Raises:
        Unsuitable: it does not exist, is empty, or is no secret.
    """
    match value:
        case Nil():
            raise Unsuitable("secret does not exist", value.hint)
        case Certificate():
            return _not_empty(value.der.reveal())
        case Key():
            return _not_empty(value.value.reveal())
        case WholeSecret():
            return _not_empty(value.value.public.reveal() if value.value else b"")
        case _:
            raise Unsuitable("invalid secret type", "it takes a secret or its Cert, Private or Public")


def _not_empty(data: bytes) -> bytes:
    if not data:
        raise Unsuitable("tried to parse secret with empty value", "a secret of a user has to be uploaded first")
    return data
