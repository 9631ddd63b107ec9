"""Values as text without a format: what `{{ value }}`, print and println write.

Go would write out secrets, maps of them and the bytes of keys as lists of numbers. Here that is refused: whoever wants
them says how.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.manifest.template.floats import float_text
from coordinator.manifest.template.values import Nil, Unsigned, Unsuitable, Value

_NO_VALUE = b"<no value>"
_HINT = "pem, hex, base64, raw (Files) or string (Env)"


def printed(value: Value) -> bytes:
    """What `{{ value }}` gives; `<no value>` for a missing one."""
    return _NO_VALUE if isinstance(value, Nil) else _text(value)


def joined(values: Sequence[Value]) -> bytes:
    """`print`: spaces between two values of which none is a string; `<nil>` for a missing one."""
    parts: list[bytes] = []
    for number, value in enumerate(values):
        if number and not isinstance(value, bytes) and not isinstance(values[number - 1], bytes):
            parts.append(b" ")
        parts.append(_text(value))
    return b"".join(parts)


def line(values: Sequence[Value]) -> bytes:
    """`println`: spaces between all values, and a line end."""
    return b" ".join(_text(value) for value in values) + b"\n"


def text_of(values: Sequence[Value]) -> bytes:
    """What html, js and urlquery escape: as `print`, but `<no value>` for a missing one."""
    return joined([_NO_VALUE if isinstance(value, Nil) else value for value in values])


def refusal() -> Unsuitable:
    """The error for what is not written without a function."""
    return Unsuitable("a secret is not printed as it is: it needs a function", _HINT)


def _text(value: Value) -> bytes:
    match value:
        case bytes():
            return value
        case Nil():
            return b"<nil>"
        case bool():
            return b"true" if value else b"false"
        case int():
            return str(value).encode()
        case Unsigned():
            return str(value.number).encode()
        case float():
            return float_text(value, "g", -1).encode()
        case _:
            raise refusal()
