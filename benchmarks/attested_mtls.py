"""What attested mutual TLS with access rules costs per call: `python benchmarks/attested_mtls.py`.

The same trivial service twice, each in a process of its own: once as a marble serves it (mutual TLS, attested peer,
rules, deadlines), once on a bare plaintext `grpc.aio` server. Windows of calls alternate between the two, so that a
busy machine slows both; what counts is the ratio of the two rates within a round. The callers' share is in it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import statistics
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from confidential_bookstore.api.bookstore.v1.bookstore_pb2 import GetSalesRequest, GetSalesResponse, Sales
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import (
    BookstoreServiceServicer,
    BookstoreServiceStub,
    add_BookstoreServiceServicer_to_server,
)
from confidential_bookstore.marble.activation_key import new_activation_key
from confidential_bookstore.marble.channel import MarbleChannel
from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.marble.server import MarbleServer
from confidential_bookstore.pki.names import DEFAULT_TRUST_DOMAIN
from confidential_bookstore.policy.access import AccessRule, AccessRules
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.telemetry.logs import configure_logging
from confidential_bookstore.telemetry.status import Status
from coordinator.pki.authority import Authority

IN_FLIGHT = (1, 16, 64)
GOAL = 0.88  # of the plaintext rate, at 16 and 64 in flight
_SERVICE = "/confidential_bookstore.api.bookstore.v1.BookstoreService"
_RULES = AccessRules([AccessRule("bookbuyer-buys", ("bookbuyer",), (Match(path=Pattern(f"{_SERVICE}/.*")),))])

Call = Callable[[], Awaitable[Any]]


def measure(seconds_per_window: float = 2, rounds: int = 7) -> dict[str, Any]:
    """Calls per second and ratios by number of calls in flight.

    Each ratio is the median over the rounds of (attested rate / plaintext rate), with its range.
    """
    return asyncio.run(_measure(seconds_per_window, rounds))


async def _measure(seconds: float, rounds: int) -> dict[str, Any]:
    configure_logging("benchmark", level="error")
    results: dict[str, Any] = {"goal": GOAL}
    async with contextlib.AsyncExitStack() as stack:
        store, buyer = environments("bookstore", "bookbuyer")
        attested_port = await stack.enter_async_context(served("attested", store))
        plain_port = await stack.enter_async_context(served("plain", {}))
        live = LiveIdentity(identity_of(buyer, "bookbuyer"))
        attested = await stack.enter_async_context(MarbleChannel(live, "bookstore", f"127.0.0.1:{attested_port}"))
        plain = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{plain_port}"))
        sides = {"attested": call_on(attested), "plain": call_on(plain)}
        for side in sides.values():
            await _rate(side, 16, 0.5)
        for in_flight in IN_FLIGHT:
            rates: dict[str, list[float]] = {"attested": [], "plain": []}
            for number in range(rounds):
                for name in list(sides) if number % 2 else reversed(list(sides)):
                    rates[name].append(await _rate(sides[name], in_flight, seconds))
            ratios = [a / p for a, p in zip(rates["attested"], rates["plain"], strict=True)]
            results[f"in_flight_{in_flight}"] = {
                "attested_per_second": round(statistics.median(rates["attested"])),
                "plain_per_second": round(statistics.median(rates["plain"])),
                "ratio": round(statistics.median(ratios), 3),
                "range": [round(min(ratios), 3), round(max(ratios), 3)],
            }
    return results


def call_on(channel: grpc.aio.Channel) -> Call:
    """One call of the trivial service."""
    stub, request = BookstoreServiceStub(channel), GetSalesRequest()
    return lambda: stub.GetSales(request, timeout=5)


async def _rate(call: Call, in_flight: int, seconds: float) -> float:
    """Answered calls per second, with so many callers that each wait for their answer."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    answered = 0

    async def caller() -> None:
        nonlocal answered
        while loop.time() - start < seconds:
            await call()
            answered += 1

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return answered / (loop.time() - start)


def environments(*marble_types: str) -> list[dict[str, str]]:
    """What the coordinator would give to a marble of each type."""
    now = dt.datetime.now(dt.UTC)
    authority = Authority.create(dns_names=["localhost"], now=now)

    def pem(*certificates: Any) -> str:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates).decode()

    def environment(marble_type: str) -> dict[str, str]:
        issued = authority.issue_marble_certificate(
            new_activation_key(["localhost"]).request_der,
            marble_type=marble_type,
            uuid=uuid.uuid4(),
            trust_domain=DEFAULT_TRUST_DOMAIN,
            lifetime=dt.timedelta(days=1),
            now=now,
            reserved_names=[],
        )
        key = issued.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "MARBLE_PREDEFINED_ROOT_CA": pem(authority.marble_root),
            "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA": pem(authority.root),
            "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN": pem(issued.certificate, authority.intermediate),
            "MARBLE_PREDEFINED_PRIVATE_KEY": key.decode(),
        }

    return [environment(marble_type) for marble_type in marble_types]


def identity_of(environment: dict[str, str], marble_type: str) -> Identity:
    """The identity in such an environment."""
    root = x509.load_pem_x509_certificate(environment["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"].encode())
    return Identity.from_environment(environment, marble_type=marble_type, uuid="", coordinator_root=root)


@contextlib.asynccontextmanager
async def served(kind: str, environment: dict[str, str]) -> AsyncIterator[int]:
    """A server process; it gets its identity on its standard input, says its port, and ends when the input does."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, kind, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(environment).encode() + b"\n")
        yield int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


class _Store(BookstoreServiceServicer):
    async def GetSales(self, request: GetSalesRequest, context: Any) -> GetSalesResponse:  # noqa: ARG002, N802
        return GetSalesResponse(sales=Sales(seller="bookstore", orders=1, books_sold=1))


async def _serve(kind: str) -> None:
    configure_logging("bookstore", level="error")
    environment = json.loads(sys.stdin.readline())
    if kind == "attested":
        marble = MarbleServer(
            LiveIdentity(identity_of(environment, "bookstore")),
            [(add_BookstoreServiceServicer_to_server, _Store())],
            address="127.0.0.1:0",
            rules=_RULES,
            status=Status("bookstore"),
        )
        port = await marble.start()
        stop: Callable[[float], Awaitable[None]] = marble.stop
    else:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_BookstoreServiceServicer_to_server(_Store(), server)
        port, stop = server.add_insecure_port("127.0.0.1:0"), server.stop
        await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await stop(0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(_serve(sys.argv[1]))
    else:
        print(json.dumps(measure(), indent=2))
