"""Go's `html`, `js` and `urlquery`, on the bytes of a string.

Source: text/template's HTMLEscape and JSEscape, net/url's QueryEscape. Bytes that are not UTF-8 pass through html and
js.
"""

from __future__ import annotations

import urllib.parse

_HTML = {
    ord("\0"): "\ufffd",
    ord('"'): "&#34;",
    ord("'"): "&#39;",
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
}


class _JavaScriptEscapes(dict[int, str]):
    """A table for `str.translate`; what it has not met yet is worked out once."""

    def __missing__(self, code: int) -> str:
        escaped = f"\\u{code:04X}"
        # Undecodable bytes (surrogate escapes) and printable characters pass.
        is_plain = code >= 0x20 and (chr(code).isprintable() or code == 0x7F or 0xDC80 <= code <= 0xDCFF)
        self[code] = result = chr(code) if is_plain else escaped
        return result


_JAVA_SCRIPT = _JavaScriptEscapes({ord(character): f"\\{character}" for character in "\\'\""})
_JAVA_SCRIPT.update({ord(character): f"\\u{ord(character):04X}" for character in "<>&="})


def html(text: bytes) -> bytes:
    """For the text or a quoted attribute of an HTML element."""
    return _translated(text, _HTML)


def java_script(text: bytes) -> bytes:
    """For a JavaScript string."""
    return _translated(text, _JAVA_SCRIPT)


def url_query(text: bytes) -> bytes:
    """For a value in the query of a URL."""
    return urllib.parse.quote_plus(text, safe="").encode()


def _translated(text: bytes, table: dict[int, str]) -> bytes:
    return text.decode(errors="surrogateescape").translate(table).encode(errors="surrogateescape")
