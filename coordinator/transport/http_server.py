"""aiohttp behind a `Listener`: one function answers everything, whatever its method and path."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from coordinator.settings import Address
from coordinator.transport.listener import GuardedConnection, Limits, Listener, open_listener
from coordinator.transport.paced_log import PacedLog
from coordinator.transport.tls import AnyClientCertContext

Endpoint = Callable[[web.Request], Awaitable[web.Response]]

# Of the head of a request; above them it is answered with 400 and the connection is closed.
LONGEST_LINE: Final = 16 << 10  # bytes of method and path with its query, in which names of secrets stand
LONGEST_FIELD: Final = 8 << 10  # bytes of one header
MOST_FIELDS: Final = 64


class HttpServer:
    """An open port that speaks HTTP/1.1. Make one with `open_http_server`."""

    def __init__(self, runner: web.AppRunner, listener: Listener) -> None:
        self._runner = runner
        self._listener = listener

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._listener.port

    async def stop(self, grace: float) -> None:
        """Accepts nothing more, lets open requests finish for `grace` seconds, then drops what is left."""
        await self._listener.stop(grace)
        await self._runner.cleanup()


async def open_http_server(
    address: Address,
    answer: Endpoint,
    *,
    context: AnyClientCertContext | None,
    limits: Limits,
    largest_body: int,
    tls_error_level: str = "debug",
) -> HttpServer:
    """Listens, with TLS if there is a context.

    Args:
        address: host and port.
        answer: is given every request.
        context: for TLS.
        limits: of the listener; `request_bytes` has to be more than `largest_body`.
        largest_body: in bytes; reading a larger one raises `web.HTTPRequestEntityTooLarge`.
        tls_error_level: at which failed handshakes are logged.

    Raises:
        ConfigurationError: the address cannot be had.
    """

    @web.middleware
    async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:  # noqa: ARG001  # there are no routes
        """Sends the answer itself, so that the guard hears of its end when it has been written."""
        with _request_on(request.transport):
            response = await answer(request)
            await response.prepare(request)
            await response.write_eof()
            return response

    application = web.Application(middlewares=[respond], client_max_size=largest_body)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        logger=_ServerLog(),
        max_line_size=LONGEST_LINE,
        max_field_size=LONGEST_FIELD,
        max_headers=MOST_FIELDS,
    )
    await runner.setup()
    server = runner.server
    assert server is not None  # noqa: S101  # setup made it
    try:
        listener = await open_listener(
            address, lambda _: server(), context=context, limits=limits, tls_error_level=tls_error_level
        )
    except BaseException:
        await runner.cleanup()
        raise
    return HttpServer(runner, listener)


class _ServerLog(logging.Logger):
    """Where aiohttp writes: that a request cannot be read or its sender has left is an event that anybody can cause."""

    def __init__(self) -> None:
        super().__init__("http", logging.WARNING)
        self._malformed, self._failed = PacedLog("info"), PacedLog("error")

    def handle(self, record: logging.LogRecord) -> None:
        """Called by `logging`."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionResetError):
            self._malformed("malformed request", error=type(error).__name__)
        else:
            self._failed("request failed", error=record.getMessage(), exc_info=error)


def _request_on(transport: asyncio.Transport | None) -> contextlib.AbstractContextManager[None]:
    """Tells the connection's guard of a request; there is none when the peer has left already."""
    guard = transport.get_protocol() if transport is not None else None
    return guard.request() if isinstance(guard, GuardedConnection) else contextlib.nullcontext()
