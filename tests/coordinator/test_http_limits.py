"""What the head of a request may be, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import pytest
from aiohttp import web
from raw_connection import closed_by_peer, connected
from structlog.testing import capture_logs

from coordinator.transport.http_server import LONGEST_FIELD, LONGEST_LINE, MOST_FIELDS, open_http_server
from coordinator.transport.listener import Limits


async def hello(request: web.Request) -> web.Response:
    if request.path == "/broken":
        raise ZeroDivisionError
    return web.Response(text="hello")


@contextlib.asynccontextmanager
async def serving(**limits):
    server = await open_http_server(
        ("127.0.0.1", 0), hello, context=None, limits=Limits(request_bytes=1 << 20, **limits), largest_body=1024
    )
    try:
        yield server.port
    finally:
        await server.stop(0)


async def answer(port: int, request: bytes) -> bytes:
    """To a request that asks for the connection to be closed."""
    async with connected(port) as (reader, writer):
        writer.write(request)
        return await closed_by_peer(reader, 5)


def request(path: str = "/", **fields: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Connection: close", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "Host: here", "", ""]).encode()


WITHIN = {
    "line": request("/" + "x" * (LONGEST_LINE - 100)),
    "field": request(field="x" * (LONGEST_FIELD - 100)),
    "number of fields": request(**{f"f{number}": "x" for number in range(MOST_FIELDS - 2)}),
}
ABOVE = {
    "line": request("/" + "x" * (LONGEST_LINE + 1)),
    "field": request(field="x" * (LONGEST_FIELD + 1)),
    "name of a field": request(**{"f" * (LONGEST_FIELD + 1): "x"}),
    "number of fields": request(**{f"f{number}": "x" for number in range(MOST_FIELDS)}),
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
}


@pytest.mark.parametrize("what", WITHIN)
async def test_up_to_the_limits_it_is_served(what):
    async with serving() as port:
        assert (await answer(port, WITHIN[what])).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("what", ABOVE)
async def test_above_them_it_is_refused_and_the_connection_closed(what):
    async with serving() as port:
        assert (await answer(port, ABOVE[what])).startswith(b"HTTP/1.0 400 ")
        assert (await answer(port, request())).endswith(b"hello")


async def test_malformed_requests_fill_no_log(caplog):
    caplog.set_level(logging.DEBUG)
    async with serving() as port:
        with capture_logs() as lines:
            for _ in range(20):
                await answer(port, ABOVE["field"])
    malformed = [line for line in lines if line["event"] == "malformed request"]
    assert malformed[0] == {"event": "malformed request", "error": "LineTooLong", "log_level": "info"}
    assert len(malformed) < 10
    assert [record for record in caplog.records if record.name.startswith(("aiohttp", "http"))] == []


async def test_a_failure_of_the_endpoint_is_told():
    async with serving() as port:
        with capture_logs() as lines:
            assert (await answer(port, request("/broken"))).startswith(b"HTTP/1.1 500 ")
    (failed,) = (line for line in lines if line["event"] == "request failed")
    assert failed["log_level"] == "error"
    assert isinstance(failed["exc_info"], ZeroDivisionError)


async def test_a_head_that_never_ends_is_dropped():
    async with serving(request_seconds=0.7) as port, connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n")

        async def dribble():
            while True:
                writer.write(b"a: b\r\n")
                await asyncio.sleep(0.1)

        dribbling = asyncio.create_task(dribble())
        began = time.monotonic()
        await closed_by_peer(reader, 5)
        dribbling.cancel()
        assert time.monotonic() - began < 4
