"""The coordinator's metrics, under MarbleRun's names.

Everybody on the network can cause requests, so nothing that a peer says becomes a label unless it is known here: marble
types that the manifest does not have, methods and paths that are no endpoint each count as one. UUIDs, which MarbleRun
puts into the labels of attempts too, are labels of successful activations only, and of so many of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from typing import Final

from grpclib.const import Status

from coordinator.monitoring.prometheus import Counter, Family, Gauge, Histogram

UNKNOWN_TYPE: Final = "unknown"
OTHER: Final = "other"
MOST_UUIDS: Final = 1000  # series of successful activations

_HTTP_METHODS = frozenset({"get", "put", "head", "post", "delete", "connect", "options", "trace", "patch"})
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 2.5, 5)
_BYTES = (100, 1000, 2000, 5000, 10000)


def exposition(families: Iterable[Family]) -> str:
    """The families, one after the other."""
    return "".join(family.exposition() for family in families)


def coordinator_families(state: int, version: str, commit: str) -> tuple[Family, ...]:
    """What the coordinator is, and in which state."""
    current = Gauge("coordinator_state", "State of the coordinator, by MarbleRun's number.")
    current.set(state)
    info = Gauge("coordinator_version_info", "Version of the coordinator; always 0.", ("version", "commit"))
    info.set(0, version, commit)
    return current, info


class ActivationCounters:
    """Attempted and successful activations by marble type."""

    def __init__(self) -> None:
        self._attempts = Counter("coordinator_marble_activations_total", "Attempted activations.", ("type",))
        self._successes = Counter(
            "coordinator_marble_activations_success_total", "Successful activations.", ("type", "uuid")
        )
        self.families: tuple[Family, ...] = (self._attempts, self._successes)

    def attempted(self, marble_type: str, known_types: Collection[str]) -> None:
        """Counts a call of Activate, before any check; all types that are not known count as "unknown"."""
        self._attempts.add(marble_type if marble_type in known_types else UNKNOWN_TYPE)

    def succeeded(self, marble_type: str, uuid: str = "") -> None:
        """Counts an activation; type and UUID are checked. When there are too many UUIDs, new ones are "other"."""
        known = (marble_type, uuid) in self._successes or len(self._successes) < MOST_UUIDS
        self._successes.add(marble_type, uuid if known else OTHER)


class GrpcMetrics:
    """Calls of one gRPC service, with the names that Go's interceptors give them.

    Args:
        service: its full name.
        methods: which it has; a call of any other counts as "other".
    """

    def __init__(self, service: str = "rpc.Marble", methods: Collection[str] = ("Activate",)) -> None:
        self._service = service
        self._methods = frozenset(methods)
        labels = ("grpc_type", "grpc_service", "grpc_method")
        self._started = Counter("grpc_server_started_total", "Calls that have begun.", labels)
        self._handled = Counter("grpc_server_handled_total", "Calls that have ended.", (*labels, "grpc_code"))
        self._received = Counter("grpc_server_msg_received_total", "Messages that have come in.", labels)
        self._sent = Counter("grpc_server_msg_sent_total", "Messages that were sent.", labels)
        self.families: tuple[Family, ...] = (self._started, self._handled, self._received, self._sent)
        for method in methods:
            for family in (self._started, self._received, self._sent):
                family.add(*self._series(method), amount=0)

    def started(self, method: str) -> None:
        """A call has begun."""
        self._started.add(*self._series(method))

    def received(self, method: str) -> None:
        """Its request has arrived."""
        self._received.add(*self._series(method))

    def sent(self, method: str) -> None:
        """Its answer was sent."""
        self._sent.add(*self._series(method))

    def handled(self, method: str, status: Status) -> None:
        """It has ended."""
        self._handled.add(*self._series(method), code_name(status))

    def _series(self, method: str) -> tuple[str, str, str]:
        return "unary", self._service, method if method in self._methods else OTHER


def code_name(status: Status) -> str:
    """As Go names it: OK, InvalidArgument, Canceled."""
    if status is Status.OK:
        return "OK"
    return "Canceled" if status is Status.CANCELLED else "".join(word.capitalize() for word in status.name.split("_"))


class HttpMetrics:
    """Requests of the client API."""

    def __init__(self) -> None:
        self._paths: frozenset[str] = frozenset()
        name = "server_client_api_http_"
        self._requests = Counter(f"{name}request_total", "Answered requests.", ("path", "code", "method"))
        self._seconds = Histogram(
            f"{name}request_duration_histogram_seconds", "Time to an answer.", ("path", "method"), bounds=_SECONDS
        )
        self._received = Histogram(f"{name}request_size_histogram_bytes", "Sizes of requests.", bounds=_BYTES)
        self._sent = Histogram(f"{name}response_size_histogram_bytes", "Sizes of answers.", bounds=_BYTES)
        self._in_flight = Gauge(f"{name}in_flight_requests", "Requests that are being answered.")
        self.families: tuple[Family, ...] = (
            self._requests,
            self._seconds,
            self._received,
            self._sent,
            self._in_flight,
        )

    def know(self, paths: Iterable[str]) -> None:
        """These are endpoints; any path that is none counts as "other"."""
        self._paths = self._paths.union(paths)

    @contextlib.contextmanager
    def in_flight(self) -> Iterator[None]:
        """Around the answering of one request."""
        self._in_flight.change(1)
        try:
            yield
        finally:
            self._in_flight.change(-1)

    def observe(
        self, method: str, path: str, code: int, *, seconds: float, request_bytes: int, response_bytes: int
    ) -> None:
        """One answered request. Method and path are what the peer said; `code` is what it was answered."""
        method = method.lower() if method.lower() in _HTTP_METHODS else UNKNOWN_TYPE
        path = path if path in self._paths else OTHER
        self._requests.add(path, str(code), method)
        self._seconds.observe(seconds, path, method)
        self._received.observe(request_bytes)
        self._sent.observe(response_bytes)
