"""What happens to every call before a servicer sees it, and to every error after.

In this order: read the attested peer, ask the access rules, bound the time, run the method, map its error to a status.
A denial is PERMISSION_DENIED and names the rule. What is not one of our errors is INTERNAL without a word about it; the
traceback is in the log only.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog

from confidential_bookstore.errors import BookstoreError, PolicyDenied
from confidential_bookstore.marble.peer import current_peer_type, peer_of, set_current_peer, tls_version_of
from confidential_bookstore.policy.access import AccessRules, Decision
from confidential_bookstore.telemetry.status import Status

MAXIMUM_UNARY_SECONDS = 30.0
TLS13_ONLY = "tls-1.3-only"
_MOST_CONNECTIONS = 4096

_log = structlog.get_logger()

# Quoted: generic in the type stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Unary: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
Streaming: TypeAlias = Callable[[Any, Context], AsyncIterator[Any]]


class AttestedPeerInterceptor(grpc.aio.ServerInterceptor):
    """Lets in who may call, and maps errors. The wrapped handler of a method is made once."""

    def __init__(
        self, rules: AccessRules, status: Status, *, maximum_unary_seconds: float = MAXIMUM_UNARY_SECONDS
    ) -> None:
        self._rules = rules
        self._status = status
        self._maximum = maximum_unary_seconds
        self._decisions: dict[tuple[str, str], Decision] = {}
        self._guarded: dict[str, Handler] = {}
        self._modern: set[str] = set()
        self._served = status.counter("calls_total", "calls that were let in")
        self._refused = status.counter("refusals_total", "calls that were refused")
        self._failed = status.counter("errors_total", "calls that ended in an internal error")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Called by gRPC for every call."""
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:  # no such method: gRPC answers UNIMPLEMENTED
                return handler
            guarded = self._guarded[method] = self._guard(method, handler)
        return guarded

    def _guard(self, method: str, handler: Handler) -> Handler:
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **codec)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._unary(method, handler.stream_unary), **codec)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._streaming(method, handler.unary_stream), **codec)
        return grpc.stream_stream_rpc_method_handler(self._streaming(method, handler.stream_stream), **codec)

    def _admit(self, method: str, context: Context) -> None:
        """Raises unless the peer may call the method; then it is the current peer."""
        if (connection := context.peer()) not in self._modern:
            self._require_tls13(connection, context)
        peer = peer_of(context)
        key = (peer.marble_type, method)
        decision = self._decisions.get(key)
        if decision is None:  # bounded: attested marble types times registered methods
            decision = self._decisions[key] = self._rules.allow(*key)
        set_current_peer(peer)
        if not decision.allowed:
            raise PolicyDenied(f"{peer.marble_type} may not call {method}", rule=decision.rule)
        self._served.value += 1

    def _require_tls13(self, connection: str, context: Context) -> None:
        """Asked once per connection, because reading the version costs more than all the rest."""
        if (version := tls_version_of(context)) != "TLSv1.3":
            raise PolicyDenied(f"the connection speaks {version or 'no TLS'}", rule=TLS13_ONLY)
        if len(self._modern) >= _MOST_CONNECTIONS:
            self._modern.clear()
        self._modern.add(connection)

    def _unary(self, method: str, behavior: Any) -> Unary:
        if not inspect.iscoroutinefunction(behavior):
            return _unimplemented
        return self._coroutine(method, behavior, self._maximum)

    def _coroutine(self, method: str, behavior: Unary, maximum: float) -> Unary:

        async def guarded(request: Any, context: Context) -> Any:
            try:
                self._admit(method, context)
                remaining = context.time_remaining()
                if (math.inf if remaining is None else remaining) <= maximum:  # gRPC ends the call at its deadline
                    return await behavior(request, context)
                async with asyncio.timeout(maximum):
                    return await behavior(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  # the edge: whatever happened becomes a status
                await self._answer(method, context, error)

        return guarded

    def _streaming(self, method: str, behavior: Any) -> Streaming | Unary:
        if inspect.iscoroutinefunction(behavior):  # writes its answers to the context
            return self._coroutine(method, behavior, math.inf)
        if not inspect.isasyncgenfunction(behavior):
            return _unimplemented

        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                self._admit(method, context)
                async with contextlib.aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        yield response
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  # the edge: whatever happened becomes a status
                await self._answer(method, context, error)

        return guarded

    async def _answer(self, method: str, context: Context, error: Exception) -> None:
        """Ends the call with the status of `error`; never returns normally."""
        if isinstance(error, PolicyDenied):
            peer = current_peer_type()
            self._refused.add()
            self._status.refuse(peer, method, error.rule)
            _log.warning("call.denied", peer=peer, method=method, rule=error.rule, address=context.peer())
        code, details = status_of(error)
        if code is grpc.StatusCode.INTERNAL:
            self._failed.add()
            _log.error("call.failed", method=method, exc_info=error)
        await context.abort(code, details)


async def _unimplemented(_request: Any, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service has no such method")


def behavior_of(handler: Handler) -> Any:
    """The servicer's method in a handler."""
    return handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream


def is_served(handler: Handler) -> bool:
    """Whether a handler is asynchronous, as it must be. A method that a servicer leaves out is not, either."""
    return bool(inspect.iscoroutinefunction(behavior := behavior_of(handler)) or inspect.isasyncgenfunction(behavior))


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The one table from errors to gRPC statuses: `grpc_status` of our own, INTERNAL for all others."""
    if isinstance(error, BookstoreError):
        code = grpc.StatusCode[error.grpc_status]
        return (code, "internal error") if code is grpc.StatusCode.INTERNAL else (code, str(error))
    if isinstance(error, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED, "the call took longer than this service allows"
    return grpc.StatusCode.INTERNAL, "internal error"
