"""The functions of templates: MarbleRun's encodings of secrets, and Go's `js`.

Each takes one value and gives bytes. They raise `Unsuitable`, to which the evaluator adds the place.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from coordinator.manifest.template.values import Namespace, SecretPart, TemplateKind, Value
from coordinator.secrets.value import SecretType, SecretValue

_EVERYWHERE = frozenset(TemplateKind)


class Unsuitable(Exception):
    """The function cannot take this value. Never leaves the template package."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Function:
    """A function and the kinds of templates that have it."""

    apply: Callable[[Value], bytes]
    kinds: frozenset[TemplateKind] = _EVERYWHERE


def _secret_bytes(value: Value) -> bytes:
    """The bytes of a part, or of a whole secret: its `Public`, which for a symmetric key is the key."""
    match value:
        case SecretPart():
            data = value.value.reveal()
        case SecretValue():
            data = value.public.reveal()
        case _:
            raise Unsuitable("needs a secret or its Cert, Private or Public")
    if not data:
        raise Unsuitable("the secret has nothing here")
    return data


def _pem(value: Value) -> bytes:
    if not isinstance(value, SecretPart):
        raise Unsuitable("needs Cert, Private or Public of a secret", hint="for example: pem .Secrets.name.Cert")
    body = base64.b64encode(_secret_bytes(value))
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    label = value.pem_label.encode()
    return b"\n".join([b"-----BEGIN " + label + b"-----", *lines, b"-----END " + label + b"-----", b""])


def _string(value: Value) -> bytes:
    if not isinstance(value, SecretValue) or value.type is not SecretType.PLAIN:
        raise Unsuitable("needs a secret of type plain", hint="use hex or base64 for other secrets")
    data = _secret_bytes(value)
    if b"\0" in data:
        raise Unsuitable("the secret has a NUL byte, which an environment variable cannot have")
    return data


class _JavaScriptEscapes(dict[int, str]):
    """A table for `str.translate`, as Go's `template.JSEscape` (text/template, funcs.go) writes characters."""

    def __missing__(self, code: int) -> str:
        escaped = f"\\u{code:04X}"
        # Undecodable bytes (surrogate escapes) and printable characters pass.
        is_plain = code >= 0x20 and (chr(code).isprintable() or code == 0x7F or 0xDC80 <= code <= 0xDCFF)
        self[code] = result = chr(code) if is_plain else escaped
        return result


_JAVA_SCRIPT = _JavaScriptEscapes({ord(character): f"\\{character}" for character in "\\'\""})
_JAVA_SCRIPT.update({ord(character): f"\\u{ord(character):04X}" for character in "<>&="})


def _js(value: Value) -> bytes:
    text = printed(value).decode(errors="surrogateescape")
    return text.translate(_JAVA_SCRIPT).encode(errors="surrogateescape")


def printed(value: Value) -> bytes:
    """What `{{ value }}` gives: text and numbers only, since a secret has no form of its own."""
    match value:
        case bytes():
            return value
        case int():
            return str(value).encode()
        case Namespace():
            raise Unsuitable("names a group, not a value")
        case _:
            raise Unsuitable("a secret needs a function", hint="pem, hex, base64, raw (Files) or string (Env)")


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "pem": Function(_pem),
        "hex": Function(lambda value: binascii.hexlify(_secret_bytes(value))),
        "base64": Function(lambda value: base64.b64encode(_secret_bytes(value))),
        "raw": Function(_secret_bytes, frozenset({TemplateKind.FILE})),
        "string": Function(_string, frozenset({TemplateKind.ENV})),
        "js": Function(_js),
    }
)
