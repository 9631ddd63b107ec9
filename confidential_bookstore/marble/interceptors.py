"""What happens to every call before a servicer sees it, and to every error after.

In this order: read the attested peer, ask whether its certificate still counts, ask the access rules, bound the time,
run the method, map its error to a status.
A denial is PERMISSION_DENIED and names the rule. What is not one of our errors is INTERNAL without a word about it; the
traceback is in the log only.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import structlog

from confidential_bookstore.errors import (
    BookstoreError,
    ConfigurationError,
    NotServing,
    PolicyDenied,
    TooManyCalls,
)
from confidential_bookstore.marble.callers import Callers
from confidential_bookstore.marble.generations import REVOKED
from confidential_bookstore.marble.peer import Peer, current_peer, current_peer_type, peer_of, set_current_peer
from confidential_bookstore.policy.access import OPEN_TO_EVERY_MARBLE, AccessRules, Decision
from confidential_bookstore.telemetry.status import Status

MAXIMUM_UNARY_SECONDS = 30.0
MAXIMUM_CONCURRENT_CALLS = 1024
MAXIMUM_STREAMS_PER_TYPE = 128
VALID_CERTIFICATES_ONLY = "valid-certificates-only"
_TOO_MANY = "too many calls at once"
_STREAM_ENDED = "the stream ends: the service is stopping, or the caller's certificate has run out; call again"

_log = structlog.get_logger()

# Quoted: generic in the type stubs only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Unary: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
Streaming: TypeAlias = Callable[[Any, Context], AsyncGenerator[Any, None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A call under way."""

    peer: Peer
    method: str
    context: Context


class CallGuard:
    """Wraps the handlers of a service, so that only who may call gets through, and errors become statuses.

    Done once, when a service is registered: gRPC's own server interceptors run for every call, which costs a tenth of
    its rate.
    """

    def __init__(
        self,
        rules: AccessRules,
        status: Status,
        callers: Callers,
        *,
        maximum_unary_seconds: float = MAXIMUM_UNARY_SECONDS,
        maximum_calls: int = MAXIMUM_CONCURRENT_CALLS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._status = status
        self._callers = callers
        self._maximum = maximum_unary_seconds
        self._most = maximum_calls  # counted here, which costs less than `maximum_concurrent_rpcs` of grpc.aio
        self._under_way = 0
        self._streams: dict[asyncio.Timeout, _Call] = {}
        self.serving = True
        self._decisions: dict[tuple[str, str], Decision] = {}  # those that no header can change
        self._clock = clock
        self._served = status.counter("calls_total", "calls that were let in")
        self._refused = status.counter("refusals_total", "calls that were refused")
        self._failed = status.counter("errors_total", "calls that ended in an internal error")

    def guard(self, service: str, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """Guarded handlers by method name, for the handlers of a service by method name.

        Raises:
            ConfigurationError: a servicer's method is not async.
        """
        return {name: self._guarded(f"/{service}/{name}", handler) for name, handler in handlers.items()}

    def set_rules(self, rules: AccessRules) -> None:
        """Judges new calls by other rules, and ends the streams that these do not allow; other calls finish."""
        self._rules = rules
        self._decisions = {}
        self.end_refused_streams()

    def end_streams(self) -> None:
        """Ends all streams now. A stream has no end of its own that a stopping server could wait for."""
        self._end(self._streams)

    def end_refused_streams(self) -> None:
        """Ends the streams of callers whose certificates do not count any longer, or who may not call any longer."""
        self._end([stream for stream, call in self._streams.items() if self._refusal(call) is not None])

    @staticmethod
    def _end(streams: Iterable[asyncio.Timeout]) -> None:
        now = asyncio.get_running_loop().time()
        for stream in streams:
            if not stream.expired():
                stream.reschedule(now)

    @contextlib.asynccontextmanager
    async def _stream(self, method: str, context: Context) -> AsyncGenerator[None, None]:
        """Bounds a stream by the end of its caller's certificate, and by `end_streams` and `end_refused_streams`.

        Raises:
            PolicyDenied: the caller's certificate has been revoked meanwhile, or the rules have changed.
            TooManyCalls: no marble type may hold so many that nothing is left for the others.
        """
        peer = current_peer()
        same = sum(call.peer.marble_type == peer.marble_type for call in self._streams.values())
        if same >= MAXIMUM_STREAMS_PER_TYPE:
            raise TooManyCalls(
                f"{peer.marble_type} has too many streams open", expected=f"at most {MAXIMUM_STREAMS_PER_TYPE}"
            )
        limit = asyncio.timeout(peer.not_after - self._clock())
        call = self._streams[limit] = _Call(peer, method, context)
        try:
            async with limit:
                yield
        except TimeoutError:
            if (refusal := self._refusal(call)) is not None:
                raise refusal from None
            await context.abort(grpc.StatusCode.UNAVAILABLE, _STREAM_ENDED)
        finally:
            del self._streams[limit]

    def _guarded(self, method: str, handler: Handler) -> Handler:
        behavior = handler.unary_unary or handler.stream_unary or handler.unary_stream or handler.stream_stream
        guarded: Any
        if inspect.iscoroutinefunction(behavior):
            guarded = self._coroutine(method, behavior, streaming=bool(handler.response_streaming))
        elif inspect.isasyncgenfunction(behavior) and handler.response_streaming:
            guarded = self._generator(method, behavior)
        elif str(behavior.__module__).endswith("_pb2_grpc"):  # the servicer leaves this method out
            guarded = _unimplemented
        else:
            raise ConfigurationError("a servicer method must be async", got=method)
        make = _MAKE_HANDLER[bool(handler.request_streaming), bool(handler.response_streaming)]
        return make(guarded, handler.request_deserializer, handler.response_serializer)

    def _admit(self, method: str, context: Context) -> None:
        """Raises unless the peer may call the method; then it is the current peer."""
        peer = peer_of(context)
        set_current_peer(peer)
        if peer.not_after <= self._clock():
            raise PolicyDenied("the caller's certificate has expired", rule=VALID_CERTIFICATES_ONLY)
        self._callers.admit(context.peer(), peer)
        decision = self._decisions.get((peer.marble_type, method)) or self._decide(peer.marble_type, method, context)
        if not decision.allowed:
            raise _denied(peer, method, decision)
        if not self.serving and decision.rule != OPEN_TO_EVERY_MARBLE:  # health still says that it does not serve
            raise NotServing("this marble has no valid certificate", hint="see its log for why it was not renewed")
        self._served.value += 1

    def _decide(self, marble_type: str, method: str, context: Context) -> Decision:
        """Asks the rules, with the headers of the call only where these count."""
        if self._rules.needs_headers(marble_type, method):
            return self._rules.allow(marble_type, method, headers_of(context))
        # Bounded: attested marble types times registered methods.
        decision = self._decisions[marble_type, method] = self._rules.allow(marble_type, method)
        return decision

    def _refusal(self, call: _Call) -> PolicyDenied | None:
        """Why this call, which was let in, would not be let in now."""
        if (reason := self._callers.refusal(call.peer)) is not None:
            return PolicyDenied(reason, rule=REVOKED)
        decision = self._decide(call.peer.marble_type, call.method, call.context)
        return None if decision.allowed else _denied(call.peer, call.method, decision)

    def _coroutine(self, method: str, behavior: Unary, *, streaming: bool) -> Unary:
        """Unary methods, and streaming ones that write their answers to the context."""
        maximum = self._maximum

        async def guarded(request: Any, context: Context) -> Any:
            if self._under_way >= self._most:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _TOO_MANY)
            self._under_way += 1
            try:
                self._admit(method, context)
                remaining = context.time_remaining()
                if not streaming and remaining is not None and remaining <= maximum:  # gRPC ends the call by itself
                    return await behavior(request, context)
                async with self._stream(method, context) if streaming else asyncio.timeout(maximum):
                    return await behavior(request, context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  # the edge: whatever happened becomes a status
                await self._answer(method, context, error)
            finally:
                self._under_way -= 1

        return guarded

    def _generator(self, method: str, behavior: Streaming) -> Streaming:
        async def guarded(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            if self._under_way >= self._most:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _TOO_MANY)
            self._under_way += 1
            try:
                self._admit(method, context)
                async with (
                    self._stream(method, context),
                    contextlib.aclosing(behavior(request, context)) as responses,
                ):
                    async for response in responses:
                        yield response
            except grpc.aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001  # the edge: whatever happened becomes a status
                await self._answer(method, context, error)
            finally:
                self._under_way -= 1

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


def headers_of(context: Context) -> dict[str, str]:
    """The metadata of a call as the access rules see it: values of the same name joined by ",", as a sidecar does.

    Binary values (`-bin`) and what gRPC keeps for itself (such as `content-type`) are left out: no rule fits them.
    """
    headers: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _denied(peer: Peer, method: str, decision: Decision) -> PolicyDenied:
    return PolicyDenied(f"{peer.marble_type} may not call {method}", rule=decision.rule)


async def _unimplemented(_request: Any, context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this service has no such method")


_MAKE_HANDLER = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The one table from errors to gRPC statuses: `grpc_status` of our own, INTERNAL for all others."""
    if isinstance(error, BookstoreError):
        code = grpc.StatusCode[error.grpc_status]
        return (code, "internal error") if code is grpc.StatusCode.INTERNAL else (code, str(error))
    if isinstance(error, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED, "the call took longer than this service allows"
    return grpc.StatusCode.INTERNAL, "internal error"
