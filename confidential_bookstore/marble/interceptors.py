"""What happens to every call before a servicer sees it, and to every error after.

In this order: read the attested peer, ask the access rules, bound the time, run the method, map its error to a status.
A denial is PERMISSION_DENIED and names the rule. What is not one of our errors is INTERNAL without a word about it; the
traceback is in the log only.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import structlog

from confidential_bookstore.errors import BookstoreError, ConfigurationError, PolicyDenied
from confidential_bookstore.marble.peer import current_peer_type, peer_of, set_current_peer
from confidential_bookstore.policy.access import AccessRules, Decision
from confidential_bookstore.telemetry.status import Status

MAXIMUM_UNARY_SECONDS = 30.0

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
        peer = peer_of(context)
        key = (peer.marble_type, method)
        decision = self._decisions.get(key)
        if decision is None:  # bounded: attested marble types times registered methods
            decision = self._decisions[key] = self._rules.allow(*key)
        set_current_peer(peer)
        if not decision.allowed:
            raise PolicyDenied(f"{peer.marble_type} may not call {method}", rule=decision.rule)
        self._served.value += 1

    def _unary(self, method: str, behavior: Any) -> Unary:
        if not inspect.iscoroutinefunction(behavior):
            raise ConfigurationError("a servicer method must be async", got=method)
        maximum = self._maximum

        async def guarded(request: Any, context: Context) -> Any:
            try:
                self._admit(method, context)
                remaining = context.time_remaining()
                if remaining is not None and remaining <= maximum:  # gRPC itself ends the call at its deadline
                    return await behavior(request, context)
                async with asyncio.timeout(maximum):
                    return await behavior(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  # the edge: whatever happened becomes a status
                await self._answer(method, context, error)

        return guarded

    def _streaming(self, method: str, behavior: Any) -> Streaming:
        if not inspect.isasyncgenfunction(behavior):
            raise ConfigurationError("a servicer method with a streamed answer must be an async generator", got=method)

        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                self._admit(method, context)
                async for response in behavior(request, context):
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


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The one table from errors to gRPC statuses: `grpc_status` of our own, INTERNAL for all others."""
    if isinstance(error, BookstoreError):
        code = grpc.StatusCode[error.grpc_status]
        return (code, "internal error") if code is grpc.StatusCode.INTERNAL else (code, str(error))
    if isinstance(error, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED, "the call took longer than this service allows"
    return grpc.StatusCode.INTERNAL, "internal error"
