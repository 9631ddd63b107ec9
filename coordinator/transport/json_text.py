"""JSON as Go's `encoding/json` writes it, to the letter."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V")

# What Go escapes beyond the rules of JSON, and halves of surrogate pairs, which are no characters.
_ESCAPED = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def go_json(value: object) -> bytes:
    """Compact JSON with `<`, `>` and `&` escaped and one newline at the end; `bytes` become standard base64.

    A dict stands for a Go struct and keeps its order; for a Go map use `go_map`.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_base64)
    return (_ESCAPED.sub(_escape, text) + "\n").encode()


def go_map(values: Mapping[str, V]) -> dict[str, V]:
    """Sorted by name, as Go writes a map."""
    return dict(sorted(values.items()))


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "\\ufffd" if "\ud800" <= character <= "\udfff" else f"\\u{ord(character):04x}"


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
