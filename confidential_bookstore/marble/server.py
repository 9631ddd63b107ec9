"""The gRPC server of a marble: mutual TLS with attested peers only, access rules, health, reflection, limits.

It never listens without TLS, never takes a caller that no coordinator of this deployment has attested, and never stops
without letting calls finish first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2_grpc import add_ServerReflectionServicer_to_server

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.callers import Callers
from confidential_bookstore.marble.credentials import server_credentials
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.interceptors import MAXIMUM_CONCURRENT_CALLS, MAXIMUM_UNARY_SECONDS, CallGuard
from confidential_bookstore.policy.access import AccessRules
from confidential_bookstore.telemetry.status import Status

# What `add_XServicer_to_server` of a generated stub takes, and the servicer for it.
Registration = tuple[Callable[[Any, Any], None], Any]

GRACE_SECONDS = 20.0

_log = structlog.get_logger()


class MarbleServer:
    """Serves the registered servicers to attested marbles.

    Args:
        live: this marble's identity, and whom it trusts; what changes is in force without a restart.
        registrations: pairs of a stub's `add_XServicer_to_server` and the servicer.
        address: `host:port`; port 0 takes a free one.
        rules: who may call what; `set_rules` replaces them.
        status: where calls and refusals are counted.
        reflection_enabled: whether the services can be listed (by attested marbles).
        maximum_unary_seconds: the longest a unary call may run, whatever deadline the caller asks for.
        maximum_concurrent_calls: more at once are answered RESOURCE_EXHAUSTED; streams count, too.

    Raises:
        ConfigurationError: there is no registration.
    """

    def __init__(
        self,
        live: LiveIdentity,
        registrations: Sequence[Registration],
        *,
        address: str,
        rules: AccessRules,
        status: Status,
        reflection_enabled: bool = True,
        maximum_unary_seconds: float = MAXIMUM_UNARY_SECONDS,
        maximum_concurrent_calls: int = MAXIMUM_CONCURRENT_CALLS,
    ) -> None:
        if not registrations:
            raise ConfigurationError("a server needs at least one servicer")
        self._live = live
        self._address = address
        self._server = grpc.aio.server(options=_OPTIONS)
        self._callers = Callers(live)
        self._guard = CallGuard(
            rules,
            status,
            self._callers,
            maximum_unary_seconds=maximum_unary_seconds,
            maximum_calls=maximum_concurrent_calls,
        )
        registration = _GuardedRegistration(self._server, self._guard)
        for add_to_server, servicer in registrations:
            known = len(registration.names)
            add_to_server(servicer, registration)
            if len(registration.names) == known:
                hint = "generate its stub with grpcio-tools 1.64 or later"
                raise ConfigurationError("a servicer was not registered", got=type(servicer).__name__, hint=hint)
        self.services: tuple[str, ...] = tuple(registration.names)
        # Defined in a branch that pyright does not follow.
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registration)
        if reflection_enabled:
            listed = (*registration.names, reflection.SERVICE_NAME)
            add_ServerReflectionServicer_to_server(reflection.aio.ReflectionServicer(listed), registration)
        self.port = 0
        self._stopped = False

    async def start(self) -> int:
        """Listens and says SERVING; returns the port.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        try:
            self.port = self._server.add_secure_port(self._address, server_credentials(self._live))
        except RuntimeError as error:
            raise ConfigurationError("cannot listen on this address", got=self._address, hint=str(error)) from error
        self._callers.port = self.port
        await self._server.start()
        await self.set_serving(serving=True)
        _log.info("server.listening", address=self._address, port=self.port, services=list(self.services))
        return self.port

    async def set_serving(self, *, serving: bool) -> None:
        """What the health service answers, for the whole server and for each service; if not, other calls fail."""
        self._guard.serving = serving
        state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in (health.OVERALL_HEALTH, *self.services):
            await self._health.set(service, state)

    def set_rules(self, rules: AccessRules) -> None:
        """Puts other rules in force, for new calls and for streams; calls under way finish, connections stay open."""
        self._guard.set_rules(rules)

    def follow(self) -> None:
        """Ends streams and connections of callers whose certificates do not count any longer."""
        self._guard.end_refused_streams()
        self._callers.disconnect_refused()

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Health says NOT_SERVING, no new call is taken, calls in flight get up to `grace` seconds."""
        if self._stopped:
            return
        self._stopped = True
        await self._health.enter_graceful_shutdown()
        _log.info("server.draining", grace=grace)
        self._guard.end_streams()
        await self._server.stop(grace)
        await self._callers.close()
        # grpc.aio returns from stop() before the handlers' last callbacks have run.
        await asyncio.sleep(0)
        _log.info("server.stopped")


class _GuardedRegistration:
    """Stands between a generated `add_XServicer_to_server` and the server: guards the handlers, learns the names."""

    def __init__(self, server: grpc.aio.Server, guard: CallGuard) -> None:
        self._server = server
        self._guard = guard
        self.names: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """The same handlers in another form, which hides the methods; they come again right after."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        guarded = self._guard.guard(service, handlers)
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, guarded),))
        self._server.add_registered_method_handlers(service, guarded)
        self.names.append(service)


# What is not said is gRPC's default: messages of at most 4 MiB, metadata of at most 16 KiB. There is no maximum age of
# a connection, because that costs every call a tenth: the guard looks at the end of the caller's certificate instead.
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
    ("grpc.server_handshake_timeout_ms", 10_000),
)
