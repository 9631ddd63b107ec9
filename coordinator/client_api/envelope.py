"""How the client API writes and reads JSON: MarbleRun's envelope, and JSON as Go's `encoding/json` has it.

success   200, {"status":"success","data":...}
fail      the client's mistake, {"status":"fail","data":null,"message":...}
error     anything else; `text/plain` with the same body, as Go's `http.Error` writes it
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

from aiohttp import web

from confidential_bookstore.errors import InvalidRequest

_JSON_SPACE = " \t\r\n"
_ESCAPED = re.compile("[<>&\u2028\u2029]")


def go_json(value: object) -> bytes:
    """Compact JSON with `<`, `>` and `&` escaped and one newline at the end; `bytes` become standard base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_base64)
    return (_ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n").encode("utf-8", "replace")


def success(data: object) -> web.Response:
    """200 with data."""
    return web.Response(body=go_json({"status": "success", "data": data}), content_type="application/json")


def fail(status: int, message: str) -> web.Response:
    """The client made a mistake."""
    body = go_json({"status": "fail", "data": None, "message": message})
    return web.Response(status=status, body=body, content_type="application/json")


def error(status: int, message: str = "") -> web.Response:
    """It could not be done; `message` is left out if empty."""
    content: dict[str, object] = {"status": "error", "data": None}
    if message:
        content["message"] = message
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, body=go_json(content), headers=headers)


def read_bytes_field(body: bytes, name: str) -> bytes:
    """One byte field of the JSON object at the start of a request body.

    As in Go: names are compared without case and the last one counts, other fields are ignored and so is what follows
    the object; bytes are base64 text or an array of numbers; null and a missing field are empty.

    Raises:
        InvalidRequest: no JSON object, or the field is something else.
    """
    fields = _leading_object(body)
    values = [value for key, value in fields.items() if key.lower() == name.lower()]
    value = values[-1] if values else None
    if value is None:
        return b""
    try:
        if isinstance(value, str):
            return base64.b64decode(re.sub("[\r\n]", "", value), validate=True)
        if isinstance(value, list) and all(type(number) is int for number in value):
            return bytes(value)
    except (ValueError, binascii.Error) as problem:
        raise InvalidRequest(f"field {name} is not base64", got=str(problem)) from None
    raise InvalidRequest(f"field {name} is of the wrong type", got=type(value).__name__, expected="base64 text")


def _leading_object(body: bytes) -> dict[str, Any]:
    text = body.decode("utf-8", "replace").lstrip(_JSON_SPACE)
    if not text:
        raise InvalidRequest("EOF")
    try:
        value, _ = json.JSONDecoder(parse_constant=_no_such_constant).raw_decode(text)
    except (ValueError, RecursionError) as problem:
        raise InvalidRequest("request body is not JSON", got=str(problem)) from None
    if not isinstance(value, dict):
        raise InvalidRequest("request body is of the wrong type", got=type(value).__name__, expected="a JSON object")
    return value


def _no_such_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid character {name[0]!r} looking for beginning of value")


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no form in JSON")
