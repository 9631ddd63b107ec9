"""How the client API answers: MarbleRun's envelope.

success   200, {"status":"success","data":...}
fail      the client's mistake, {"status":"fail","data":null,"message":...}
error     anything else; `text/plain` with the same body, as Go's `http.Error` writes it
"""

from __future__ import annotations

from aiohttp import web

from coordinator.transport.json_text import go_json


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
