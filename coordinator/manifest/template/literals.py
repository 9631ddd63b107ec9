r"""Literals of a template to values: strings to bytes, character constants and numbers to numbers.

Source: the Go specification, "String literals", "Rune literals", "Integer literals" and "Floating-point literals";
`\\xHH` and `\\OOO` stand for bytes. Imaginary numbers are left out.
"""

from __future__ import annotations

import math
import re

from coordinator.manifest.template.nodes import Position

_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34, "'": 39}
_PART = re.compile(
    r"""\\(?:(?P<simple>[abfnrtv\\"'])
        |x(?P<hex>[0-9a-fA-F]{2})
        |(?P<octal>[0-3][0-7]{2})
        |u(?P<short>[0-9a-fA-F]{4})
        |U(?P<long>[0-9a-fA-F]{8}))
    |(?P<plain>[^\\]+)""",
    re.VERBOSE,
)
_INTEGER = re.compile(
    r"""(?P<sign>[+-]?)(?:
        0[xX](?P<hex>(?:_?[0-9a-fA-F])+)
        |0[bB](?P<binary>(?:_?[01])+)
        |0(?:[oO]_?)?(?P<octal>[0-7](?:_?[0-7])*)
        |0(?P<old_octal>(?:_[0-7]+)+)
        |(?P<decimal>0|[1-9](?:_?[0-9])*))""",
    re.VERBOSE | re.ASCII,
)
_BASES = {"hex": 16, "binary": 2, "octal": 8, "old_octal": 8, "decimal": 10}
_DIGITS = r"[0-9](?:_?[0-9])*"
_FLOAT = re.compile(
    rf"[+-]?(?=\.?[0-9])(?:{_DIGITS})?(?:\.(?:{_DIGITS})?)?(?:[eE][+-]?{_DIGITS})?",
    re.ASCII,
)
_HEX_DIGITS = r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_HEX_FLOAT = re.compile(
    rf"[+-]?0[xX]_?(?=\.?[0-9a-fA-F])(?:{_HEX_DIGITS})?(?:\.(?:{_HEX_DIGITS})?)?[pP][+-]?{_DIGITS}", re.ASCII
)
_LONGEST_NUMBER = 400  # characters; bounds what reading one costs


def unquote(literal: str, position: Position) -> bytes:
    """The value of `"..."` (with escapes) or of a raw string in backquotes (where only carriage returns go).

    Raises:
        TemplateError: an escape is not Go's.
    """
    inside = literal[1:-1]
    if literal.startswith("`"):
        return inside.replace("\r", "").encode(errors="surrogateescape")
    value, offset = bytearray(), 0
    while offset < len(inside):
        part = _PART.match(inside, offset)
        if part is None or part["simple"] == "'":
            raise position.error(f"string has the unknown escape {inside[offset : offset + 2]!a}")
        value += _part_bytes(part, position)
        offset = part.end()
    return bytes(value)


def character(literal: str, position: Position) -> int:
    """The code point of one character or escape in single quotes.

    Raises:
        TemplateError: it is not exactly one character.
    """
    inside = literal[1:-1]
    if len(inside) == 1 and inside != "\\":
        code = ord(inside)
        return 0xFFFD if 0xD800 <= code <= 0xDFFF else code
    part = _PART.fullmatch(inside)
    if part is None or part["plain"] or part["simple"] == '"':
        raise position.error(f"malformed character constant: {literal[:80]!a}")
    return _code(part, position)


def number(literal: str, position: Position) -> int | float:
    """The value of a number: an int of 64 bits, or a float if it has a fraction or an exponent.

    Raises:
        TemplateError: it is malformed, imaginary, too large or too long.
    """
    if len(literal) > _LONGEST_NUMBER:
        raise position.error(f"number has more than {_LONGEST_NUMBER} characters")
    if match := _INTEGER.fullmatch(literal):
        name = next(name for name in _BASES if match[name])
        value = int(match[name].replace("_", ""), _BASES[name])
        value = -value if match["sign"] == "-" else value
        if not -(1 << 63) <= value < 1 << 63:
            raise position.error(f"{literal[:80]} overflows int")
        return value
    digits = literal.replace("_", "")
    try:
        if _HEX_FLOAT.fullmatch(literal):
            return float.fromhex(digits)
        # A number with neither is an integer that Go's syntax does not have, like 09.
        if _FLOAT.fullmatch(literal) and not digits.lstrip("+-").isdigit():
            result = float(digits)
            if not math.isinf(result):
                return result
    except OverflowError:
        pass
    hint = "imaginary numbers are not supported" if literal.endswith("i") else ""
    raise position.error(f"bad number syntax: {literal[:80]!a}", hint=hint)


def _part_bytes(part: re.Match[str], position: Position) -> bytes:
    if plain := part["plain"]:
        return plain.encode(errors="surrogateescape")
    code = _code(part, position)
    return chr(code).encode() if part["short"] or part["long"] else bytes([code])


def _code(part: re.Match[str], position: Position) -> int:
    if simple := part["simple"]:
        return _SIMPLE[simple]
    if digits := part["hex"]:
        return int(digits, 16)
    if digits := part["octal"]:
        return int(digits, 8)
    code = int(part["short"] or part["long"], 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise position.error("there is an escape that is not a character")
    return code
