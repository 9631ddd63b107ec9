r"""String literals of a template to bytes.

Source: the Go specification, "String literals" and "Rune literals"; `\\xHH` and `\\OOO` stand for bytes.
"""

from __future__ import annotations

import re

from coordinator.manifest.template.nodes import Position

_SIMPLE = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}
_PART = re.compile(
    r"""\\(?:(?P<simple>[abfnrtv\\"])
        |x(?P<hex>[0-9a-fA-F]{2})
        |(?P<octal>[0-3][0-7]{2})
        |u(?P<short>[0-9a-fA-F]{4})
        |U(?P<long>[0-9a-fA-F]{8}))
    |(?P<plain>[^\\]+)""",
    re.VERBOSE,
)


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
        if part is None:
            raise position.error(f"string has the unknown escape {inside[offset : offset + 2]!a}")
        value += _part_value(part, position)
        offset = part.end()
    return bytes(value)


def _part_value(part: re.Match[str], position: Position) -> bytes:
    if plain := part["plain"]:
        return plain.encode(errors="surrogateescape")
    if simple := part["simple"]:
        return bytes([_SIMPLE[simple]])
    if number := part["hex"]:
        return bytes([int(number, 16)])
    if number := part["octal"]:
        return bytes([int(number, 8)])
    code_point = int(part["short"] or part["long"], 16)
    if code_point > 0x10FFFF or 0xD800 <= code_point <= 0xDFFF:
        raise position.error("string has an escape that is not a character")
    return chr(code_point).encode()
