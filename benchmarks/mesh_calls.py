"""What each way to the same service costs: no TLS, attested mTLS, through two sidecars, and both.

`python -m benchmarks.mesh_calls` writes a plot, too. The services and the sidecars are processes of their own. Windows
of calls alternate between the four ways, so that a busy machine slows all of them. Ratios are of windows of one round.
CPU time is of the services and the sidecars, without the load generator, which also runs the control plane.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from benchmarks.attested_mtls import Call, call_on, environments, identity_of, served
from benchmarks.svg_plot import bars
from confidential_bookstore.api.bookstore.v1.bookstore_pb2 import GetSalesRequest, GetSalesResponse
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import (
    BookstoreServiceServicer,
    add_BookstoreServiceServicer_to_server,
)
from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.marble.callers import Callers
from confidential_bookstore.marble.channel import MarbleChannel
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.interceptors import CallGuard
from confidential_bookstore.marble.server import MarbleServer
from confidential_bookstore.policy.access import AccessRule, AccessRules
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.telemetry.logs import configure_logging
from confidential_bookstore.telemetry.status import Status
from mesh.controller import MeshController
from mesh.events import Refusal

IN_FLIGHT = (1, 16, 64)
WAYS = ("no TLS", "attested mTLS", "two sidecars", "both")
GOAL_RATE, GOAL_LATENCY, GOAL_GUARD = 0.88, 0.5, 0.05
PLOT = Path(__file__).parents[1] / "docs" / "reference" / "mesh-calls.svg"
_HOST = "127.0.44"
_SERVICE = """
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {{name: {name}, namespace: shop}}
spec: {{serviceAccount: {name}, port: 14001, appProtocol: grpc{marble}}}
---"""
_GRANT = """
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {name}, namespace: shop}}
spec:
  destination: {{kind: ServiceAccount, name: {name}}}
  sources: [{{kind: ServiceAccount, name: buyer}}]
  rules: [{{kind: HTTPRouteGroup, name: routes}}, {{kind: TCPRoute, name: port}}]
---"""
_ROUTES = r"""
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes, namespace: shop}
spec: {matches: [{name: sales, pathRegex: '/confidential_bookstore\.api\.bookstore\.v1\.BookstoreService/GetSales'}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: port, namespace: shop}
spec: {matches: {ports: [14001]}}
"""


def measure(seconds_per_window: float = 1.0, rounds: int = 7) -> dict[str, Any]:
    """By calls in flight and way: calls per second, p50 and p99 in milliseconds, CPU microseconds of a call, ratios.

    `guard`: microseconds that the guard with its rules takes of a call, and its share of the p50 at one in flight.
    """
    return asyncio.run(_measure(seconds_per_window, rounds))


async def _measure(seconds: float, rounds: int) -> dict[str, Any]:
    configure_logging("benchmark", level="error")
    results: dict[str, Any] = {"goal_rate": GOAL_RATE, "goal_latency": GOAL_LATENCY, "goal_guard": GOAL_GUARD}
    async with contextlib.AsyncExitStack() as stack:
        ways = await _ways(stack)
        for call in ways.values():
            await _window(call, 16, 0.5)
        for in_flight in IN_FLIGHT:
            windows: dict[str, list[list[float]]] = {way: [] for way in WAYS}
            cpu: dict[str, float] = dict.fromkeys(WAYS, 0.0)
            for number in range(rounds):
                for way in WAYS if number % 2 else reversed(WAYS):
                    before = _cpu_seconds()
                    windows[way].append(await _window(ways[way], in_flight, seconds))
                    cpu[way] += _cpu_seconds() - before
            results[f"in_flight_{in_flight}"] = _row(windows, cpu, seconds)
    guard = await _guard_microseconds()
    p50 = 1000 * results["in_flight_1"]["attested mTLS"]["p50_ms"]
    results["guard"] = {"microseconds": round(guard, 2), "of_call": round(guard / p50, 4)}
    return results


def _row(windows: Mapping[str, list[list[float]]], cpu: Mapping[str, float], seconds: float) -> dict[str, Any]:
    """Each window is the latencies of its calls; `cpu`: seconds of all windows of a way."""
    row: dict[str, Any] = {}
    for way, each in windows.items():
        every = sorted(latency for window in each for latency in window)
        row[way] = {
            "per_second": round(statistics.median(len(window) / seconds for window in each)),
            "p50_ms": round(1000 * statistics.median(every), 3),
            "p99_ms": round(1000 * every[int(0.99 * (len(every) - 1))], 3),
            "cpu_us": round(1e6 * cpu[way] / len(every)),
        }
    pairs = list(zip(windows["attested mTLS"], windows["no TLS"], windows["two sidecars"], strict=True))
    row["rate_of_plain"] = _ratio([len(attested) / len(plain) for attested, plain, _ in pairs])
    p50 = [statistics.median(attested) / statistics.median(sidecars) for attested, _, sidecars in pairs]
    row["p50_of_sidecars"] = _ratio(p50)
    return row


def _ratio(values: list[float]) -> dict[str, Any]:
    return {"median": round(statistics.median(values), 3), "range": [round(min(values), 3), round(max(values), 3)]}


def _cpu_seconds() -> float:
    """Of all processes that this one has started, and those that these have, all threads."""
    nanoseconds = 0
    for pid in _descendants(os.getpid()):
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # the thread has ended
                nanoseconds += int(file.read_text().split()[0])
    return nanoseconds / 1e9


def _descendants(pid: int) -> Iterator[int]:
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            yield child
            yield from _descendants(child)


async def _guard_microseconds(calls: int = 2_000, rounds: int = 7) -> float:
    """What the guard adds to a method, measured with the context of a real call; the median of the rounds."""
    store, buyer = environments("bookstore", "bookbuyer")
    served_as = LiveIdentity(identity_of(store, "bookstore"))
    path = Pattern(r"/confidential_bookstore\.api\.bookstore\.v1\.BookstoreService/GetSales")
    rules = AccessRules([AccessRule("sales", ("bookbuyer",), (Match(path=path),))])
    timed: list[float] = []

    async def bare(_request: Any, _context: Any) -> GetSalesResponse:
        return GetSalesResponse()

    guard = CallGuard(rules, Status("bookstore"), Callers(served_as))
    service = "confidential_bookstore.api.bookstore.v1.BookstoreService"
    handler = guard.guard(service, {"GetSales": grpc.unary_unary_rpc_method_handler(bare)})["GetSales"]
    guarded: Any = handler.unary_unary

    class Store(BookstoreServiceServicer):
        async def GetSales(self, request: GetSalesRequest, context: Any) -> GetSalesResponse:  # noqa: N802
            for _ in range(rounds):
                took = {}
                for method in (bare, guarded):
                    started = time.perf_counter()
                    for _ in range(calls):
                        await method(request, context)
                    took[method] = time.perf_counter() - started
                timed.append((took[guarded] - took[bare]) / calls * 1e6)
            return GetSalesResponse()

    registration = (add_BookstoreServiceServicer_to_server, Store())
    server = MarbleServer(served_as, [registration], address="127.0.0.1:0", rules=rules, status=Status("bookstore"))
    port = await server.start()
    async with MarbleChannel(
        LiveIdentity(identity_of(buyer, "bookbuyer")), "bookstore", f"127.0.0.1:{port}"
    ) as channel:
        await call_on(channel)()
    await server.stop(0)
    return statistics.median(timed)


async def _window(call: Call, in_flight: int, seconds: float) -> list[float]:
    """The seconds that each call took, with so many callers that each wait for their answer."""
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    latencies: list[float] = []

    async def caller() -> None:
        while (started := clock()) < end:
            await call()
            latencies.append(clock() - started)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return latencies


async def _ways(stack: contextlib.AsyncExitStack) -> dict[str, Call]:
    store, buyer = environments("bookstore", "bookbuyer")
    attested = f"127.0.0.1:{await stack.enter_async_context(served('attested', store))}"
    plain = f"127.0.0.1:{await stack.enter_async_context(served('plain', {}))}"
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-calls-")))
    to_plain, to_attested = _lay_out(folder, plain, attested)
    mesh = await stack.enter_async_context(MeshController(folder, seal=True, listener=_Silent()))
    while not (mesh.sidecars and all(sidecar.ready for sidecar in mesh.sidecars.values())):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    live = LiveIdentity(identity_of(buyer, "bookbuyer"))
    return {
        "no TLS": call_on(await stack.enter_async_context(grpc.aio.insecure_channel(plain))),
        "attested mTLS": call_on(await stack.enter_async_context(MarbleChannel(live, "bookstore", attested))),
        "two sidecars": call_on(await stack.enter_async_context(grpc.aio.insecure_channel(to_plain))),
        "both": call_on(await stack.enter_async_context(MarbleChannel(live, "bookstore", to_attested))),
    }


def _lay_out(folder: Path, plain: str, attested: str) -> tuple[str, str]:
    """Policy and layout; returns where the buyer's sidecar takes calls to the plain and to the attested service."""
    (folder / "policy").mkdir()
    names = {"buyer": "", "plain": "", "sealed": ", marble: bookstore"}
    services = "".join(_SERVICE.format(name=name, marble=marble) for name, marble in names.items())
    grants = "".join(_GRANT.format(name=name) for name in ("plain", "sealed"))
    (folder / "policy" / "policy.yaml").write_text(services + grants + _ROUTES)
    to_plain, to_attested = f"{_HOST}.13:16001", f"{_HOST}.13:16002"
    services_at = {
        "shop/buyer": {
            "application": f"{_HOST}.13:14001",
            "inbound": f"{_HOST}.13:15003",
            "outbound": {"shop/plain": to_plain, "shop/sealed": to_attested},
        },
        "shop/plain": {"application": plain, "inbound": f"{_HOST}.11:15003", "outbound": {}},
        "shop/sealed": {"application": attested, "inbound": f"{_HOST}.12:15003", "outbound": {}},
    }
    (folder / "layout.json").write_text(json.dumps({"services": services_at}))
    return to_plain, to_attested


class _Silent:
    def in_force(self, controller: MeshController) -> None:
        """As expected."""

    def refused_policy(self, error: BookstoreError) -> None:
        raise error

    def refused_call(self, refusal: Refusal) -> None:
        raise AssertionError(refusal)


def plot(results: dict[str, Any]) -> str:
    """An SVG of the calls per second."""
    rates = {
        f"{number} in flight": [results[f"in_flight_{number}"][way]["per_second"] for way in WAYS]
        for number in IN_FLIGHT
    }
    return bars("calls per second", WAYS, rates)


def main() -> None:
    """Measure, draw, show."""
    results = measure()
    PLOT.write_text(plot(results))
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
