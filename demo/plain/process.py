"""An ordinary process in place of a marble: it believes every caller, and sends everything in the clear.

It takes the host environment of a marble and shows the same page. A caller is whoever its header `client-app` says: so
the original demo's services knew each other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Self, TypeAlias

import grpc

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble import MarbleSettings
from confidential_bookstore.marble.channel import DEFAULT_DEADLINE_SECONDS
from confidential_bookstore.marble.interceptors import status_of
from confidential_bookstore.marble.peer import Peer, set_current_peer
from confidential_bookstore.marble.server import Registration
from confidential_bookstore.marble.tls import split_address
from confidential_bookstore.telemetry.logs import configure_logging
from confidential_bookstore.telemetry.page import StatusPage
from confidential_bookstore.telemetry.status import Status
from demo.stopping import asked_to_stop

CLAIM = "client-app"
NOBODY = "anonymous"
_GRACE_SECONDS = 2.0

# Quoted: generic in the type stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class PlainProcess:
    """What a service has in place of its `Marble`. Use it as an async context manager, once.

    Args:
        environ: as a marble's.

    Attributes:
        status: counters and readiness; also on the status page.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self.settings = MarbleSettings.from_environ(environ)
        configure_logging(self.settings.marble_type, self.settings.log_format)
        self.status = Status(self.settings.marble_type)
        self._cleanup = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        page = StatusPage(self.status, *split_address(self.settings.status_address))
        self._cleanup.callback(page.close)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._cleanup.aclose()

    def channel(self, address: str) -> grpc.aio.Channel:
        """To whoever listens at `host:port`; every call says what this process is called."""
        channel = grpc.aio.insecure_channel(address, interceptors=[_Claiming(self.settings.marble_type)])
        self._cleanup.push_async_callback(channel.close)
        return channel

    async def serve(self, *registrations: Registration) -> None:
        """Serve everybody, until SIGTERM, SIGINT, or the end of whoever started this process.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        address = self.settings.listen_address
        server = grpc.aio.server(interceptors=[_Believing()], options=[("grpc.so_reuseport", 0)])
        for add_to_server, servicer in registrations:
            add_to_server(servicer, server)
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError("cannot listen on this address", got=address, hint=str(error)) from error
        await server.start()
        self.status.set_ready()
        await asked_to_stop()
        self.status.set_not_ready("stopping")
        await server.stop(_GRACE_SECONDS)


class _Claiming(grpc.aio.UnaryUnaryClientInterceptor):
    """Says who is calling, and bounds the time of calls that have no deadline."""

    def __init__(self, name: str) -> None:
        self._claim = (CLAIM, name)

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        details = client_call_details
        claiming = grpc.aio.ClientCallDetails(
            details.method,
            details.timeout or DEFAULT_DEADLINE_SECONDS,
            grpc.aio.Metadata(*(details.metadata or ()), self._claim),
            details.credentials,
            details.wait_for_ready,
        )
        return await continuation(claiming, request)


class _Believing(grpc.aio.ServerInterceptor):
    """The caller is who it says it is; errors become the statuses that they have in a marble."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        claims = [value for name, value in handler_call_details.invocation_metadata or () if name == CLAIM]
        peer = Peer(str(claims[0]) if claims else NOBODY, uuid="")
        if handler is None:
            return None
        codec = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary, peer), *codec)
        return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream, peer), *codec)


def _unary(behavior: Any, peer: Peer) -> Any:
    async def believing(request: Any, context: Context) -> Any:
        set_current_peer(peer)
        try:
            return await behavior(request, context)
        except Exception as error:  # noqa: BLE001  # the edge: whatever happened becomes a status
            await _answer(context, error)

    return believing


def _stream(behavior: Any, peer: Peer) -> Any:
    async def believing(request: Any, context: Context) -> AsyncGenerator[Any, None]:
        set_current_peer(peer)
        try:
            async for response in behavior(request, context):
                yield response
        except Exception as error:  # noqa: BLE001  # as above
            await _answer(context, error)

    return believing


async def _answer(context: Context, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    await context.abort(*status_of(error))
