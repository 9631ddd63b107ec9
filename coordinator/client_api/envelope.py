"""How the client API answers: MarbleRun's envelope, and JSON as Go's `encoding/json` writes it.

success   200, {"status":"success","data":...}
fail      the client's mistake, {"status":"fail","data":null,"message":...}
error     anything else; `text/plain` with the same body, as Go's `http.Error` writes it
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import TypeVar

from aiohttp import web

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


def success(data: object) -> web.Response:
    """200 with data."""
    return web.Response(body=go_json({"status": "success", "data": data}), content_type="application/json")


def fail(status: int, message: str, data: object = None) -> web.Response:
    """The client made a mistake; `data` may say in which field."""
    body = go_json({"status": "fail", "data": data, "message": message})
    return web.Response(status=status, body=body, content_type="application/json")


def error(status: int, message: str = "") -> web.Response:
    """It could not be done; `message` is left out if empty."""
    content: dict[str, object] = {"status": "error", "data": None}
    if message:
        content["message"] = message
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, body=go_json(content), headers=headers)


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    return "\\ufffd" if "\ud800" <= character <= "\udfff" else f"\\u{ord(character):04x}"


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
