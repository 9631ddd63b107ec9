"""One value under one verb of a format, as Go's fmt writes it.

Whole secrets, certificates and groups of them have no text, under no verb. Keys have the verbs of byte slices that say
how they are written: %s, %q, %x, %X.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.manifest.template.floats import float_text
from coordinator.manifest.template.printing import refusal
from coordinator.manifest.template.quoting import (
    can_be_raw,
    is_printable,
    quoted,
    quoted_character,
    valid_code_point,
)
from coordinator.manifest.template.values import Key, Nil, Unsigned, Unsuitable, Value, type_name


@dataclass(frozen=True, slots=True)
class Spec:
    """Flags, width and precision of a verb; -1 where they are not given."""

    plus: bool = False
    minus: bool = False
    sharp: bool = False
    space: bool = False
    zero: bool = False
    syntax: bool = False  # %#v: as it would stand in a Go program
    width: int = -1
    precision: int = -1

    def padded(self, text: bytes) -> bytes:
        """The text with the width in characters."""
        missing = self.width - len(text.decode(errors="replace")) if self.width > 0 else 0
        if missing <= 0:
            return text
        if self.minus:
            return text + b" " * missing
        return (b"0" if self.zero else b" ") * missing + text


def formatted(verb: str, value: Value, spec: Spec) -> bytes:
    """The value under the verb; `%!verb(type=value)` if Go does not have it for this type.

    Raises:
        Unsuitable: the value may not be printed, or the verb is %p.
    """
    if verb == "p":
        raise Unsuitable("verb %p is not supported", "addresses mean nothing in a template")
    if isinstance(value, Nil):
        return spec.padded(b"<nil>") if verb in "vT" else _bad(verb, b"<nil>")
    if verb == "T":
        verb, value = "s", type_name(value).encode()
    text = _text(verb, value, spec)
    if text is None:
        return _bad(verb, type_name(value).encode() + b"=" + formatted("v", value, spec))
    return text


def _bad(verb: str, instead: bytes) -> bytes:
    return b"%%!%s(%s)" % (verb.encode(), instead)


def _text(verb: str, value: Value, spec: Spec) -> bytes | None:
    """None if the value's type does not have the verb."""
    match value:
        case bool():
            return spec.padded(b"true" if value else b"false") if verb in "tv" else None
        case int():
            return _integer(verb, value, spec, signed=True)
        case Unsigned():
            return _integer(verb, value.number, spec, signed=False)
        case float():
            return _float(verb, value, spec)
        case bytes():
            return _string(verb, value, spec)
        case Key() if verb in "sqxX":
            return _string(verb, value.value.reveal(), spec)
        case _:
            raise refusal()


def _string(verb: str, data: bytes, spec: Spec) -> bytes | None:
    match verb:
        case "s" | "v" if not spec.syntax:
            return spec.padded(_truncated(data, spec.precision))
        case "q" | "v":
            data = _truncated(data, spec.precision)
            if spec.sharp and can_be_raw(data):
                return spec.padded(b"`" + data + b"`")
            return spec.padded(quoted(data, ascii_only=spec.plus))
        case "x" | "X":
            return _hex_bytes(verb, data, spec)
        case _:
            return None


def _truncated(data: bytes, characters: int) -> bytes:
    if not 0 <= characters < len(data):
        return data
    return data.decode(errors="surrogateescape")[:characters].encode(errors="surrogateescape")


def _hex_bytes(verb: str, data: bytes, spec: Spec) -> bytes:
    data = data[: spec.precision] if spec.precision >= 0 else data
    digits = data.hex(" ") if spec.space else data.hex()
    if spec.sharp and data:
        digits = "0x" + (digits.replace(" ", " 0x") if spec.space else digits)
    text = digits.upper() if verb == "X" else digits
    return spec.padded(text.encode())


def _integer(verb: str, number: int, spec: Spec, *, signed: bool) -> bytes | None:
    match verb:
        case "v" if spec.syntax and not signed:
            return _digits("x", number, replace(spec, sharp=True))
        case "v" | "d" | "b" | "o" | "x" | "X" | "O":
            return _digits("d" if verb == "v" else verb, number, spec)
        case "c":
            return spec.padded(chr(valid_code_point(number)).encode())
        case "q":
            return spec.padded(quoted_character(number, ascii_only=spec.plus))
        case "U":
            return _code_point(number, spec)
        case _:
            return None


_PREFIXES = {"b": "0b", "x": "0x", "X": "0X"}


def _digits(form: str, number: int, spec: Spec) -> bytes:
    sign = "-" if number < 0 else "+" if spec.plus else " " if spec.space else ""
    without_zeros = replace(spec, zero=False)
    least = spec.precision
    if least == 0 and number == 0:
        return without_zeros.padded(b"")
    if least < 0 and spec.zero and spec.width > 0:
        least = spec.width - len(sign)
    digits = format(abs(number), form.lower() if form == "O" else form).rjust(max(least, 0), "0")
    if form == "O":
        digits = "0o" + ("0" + digits if spec.sharp and not digits.startswith("0") else digits)
    elif spec.sharp and form == "o":
        digits = digits if digits.startswith("0") else "0" + digits
    elif spec.sharp:
        digits = _PREFIXES.get(form, "") + digits
    return without_zeros.padded((sign + digits).encode())


def _code_point(number: int, spec: Spec) -> bytes:
    # Go takes a negative number for an unsigned one here.
    number %= 1 << 64
    text = f"U+{format(number, 'X').rjust(max(spec.precision, 4), '0')}"
    if spec.sharp and number <= 0x10FFFF and is_printable(number):
        text += f" '{chr(number)}'"
    return replace(spec, zero=False).padded(text.encode())


_FLOAT_PRECISION = {"v": -1, "g": -1, "G": -1, "x": -1, "X": -1, "b": -1, "e": 6, "E": 6, "f": 6, "F": 6}


def _float(verb: str, number: float, spec: Spec) -> bytes | None:
    if verb not in _FLOAT_PRECISION:
        return None
    precision = spec.precision if spec.precision >= 0 else _FLOAT_PRECISION[verb]
    form = "g" if verb == "v" else verb.lower()
    text = float_text(number, form, precision)
    if spec.sharp and form != "b":
        text = _with_point(text, verb, precision)
    if verb in "XGE":
        text = text.upper()
    sign = "-" if text.startswith("-") else "+" if spec.plus else " " if spec.space else ""
    digits = text.removeprefix("-")
    if sign and spec.zero:
        return (sign + digits.rjust(spec.width - 1, "0")).encode()
    return spec.padded((sign + digits).encode())


def _with_point(text: str, verb: str, precision: int) -> str:
    """Flag "#": a point in any case, and for %g and %x the zeros that they would have left out."""
    number, mark, tail = text.partition("p" if verb in "xX" else "e")
    digits = number.removeprefix("-")
    wanted = (6 if precision < 0 else precision) if verb in "vgGx" else 0
    wanted -= len(digits.replace(".", "").lstrip("0"))
    if "." not in number:
        wanted -= digits == "0"
        number += "."
    return number + "0" * max(wanted, 0) + mark + tail
