"""Strings and characters in quotes, as Go's strconv.Quote and QuoteRune write them."""

from __future__ import annotations

_SIMPLE = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\"}
_LAST_CODE_POINT = 0x10FFFF


def quoted(data: bytes, *, ascii_only: bool) -> bytes:
    """In double quotes; bytes that are not UTF-8 as escapes of two hex digits."""
    text = data.decode(errors="surrogateescape")
    inside = "".join(_escaped(ord(character), '"', ascii_only=ascii_only) for character in text)
    return f'"{inside}"'.encode()


def quoted_character(code: int, *, ascii_only: bool) -> bytes:
    """In single quotes."""
    return f"'{_escaped(valid_code_point(code), chr(39), ascii_only=ascii_only)}'".encode()


def valid_code_point(code: int) -> int:
    """The code point itself, or U+FFFD if it is none."""
    return code if 0 <= code <= _LAST_CODE_POINT and not 0xD800 <= code <= 0xDFFF else 0xFFFD


def can_be_raw(data: bytes) -> bool:
    """It can stand between backquotes in one line."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return not any((character < " " and character != "\t") or character in "`\x7f\ufeff" for character in text)


def is_printable(code: int) -> bool:
    """Go's IsPrint: everything that can be seen, and the space."""
    return chr(code).isprintable()


def _escaped(code: int, quote: str, *, ascii_only: bool) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"  # an undecodable byte
    if code == ord(quote):
        return f"\\{quote}"
    if code in _SIMPLE:
        return _SIMPLE[code]
    if is_printable(code) and (code < 0x80 or not ascii_only):
        return chr(code)
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
