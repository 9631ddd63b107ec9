"""Other rules and splits, by an update of the manifest: in force without a restart, and nobody else notices."""

from __future__ import annotations

import asyncio
import collections
import json
import time

import grpc
import pytest
import structlog
from marble_pki import SERVICE
from test_rotation import ADD, Calling, coordinator, serving, stack, start, stub, until
from test_server_and_channel import ASK, Store

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2, bookstore_pb2_grpc
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.split_channel import Shares, SplitChannel
from confidential_bookstore.policy.access import AccessRule, AccessRules
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern

__all__ = ["coordinator", "stack", "start"]  # fixtures
BOTH = ["bookbuyer", "bookthief"]


def rules(sources: list[str], name="all", **match) -> bytes:
    matches = [{"path": f"{SERVICE}/.*", **match}]
    return json.dumps([{"name": name, "sources": sources, "matches": matches}] if sources else []).encode()


async def test_taking_a_grant_back_reaches_open_connections_within_a_second(coordinator, start):
    store, buyer, thief = await start("bookstore"), await start("bookbuyer"), await start("bookthief")
    port = await store.server((ADD, Watched())).start()
    store.status.set_ready()
    thiefs = stub(thief, port)
    watching = bookstore_pb2_grpc.BookstoreServiceStub(thief.channel("bookstore", f"127.0.0.1:{port}")).WatchSales(
        bookstore_pb2.WatchSalesRequest()
    )
    await watching.read()
    calling = [Calling(stub(buyer, port)) for _ in range(8)]
    for _ in range(3):
        await thiefs.GetSales(ASK)
        coordinator.env["MARBLE_ACCESS_RULES"] = rules(["bookbuyer"], name="buyer-only")
        updated = time.monotonic()
        await coordinator.rotate()
        refused = await first_refusal(thiefs)
        assert time.monotonic() - updated < 1
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert refused.details() == f"bookthief may not call {SERVICE}/GetSales (rule: deny-by-default)"
        coordinator.env["MARBLE_ACCESS_RULES"] = rules(BOTH)
        await coordinator.rotate()
        await until(lambda: allowed(store, "bookthief"))
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watching.read()
    assert ended.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "(rule: deny-by-default)" in ended.value.details()
    for each in calling:
        await each.end()
    assert [each.failures for each in calling] == [[]] * len(calling)
    assert sum(each.answers for each in calling) > 200
    assert store.status.ready


def allowed(store, source: str) -> bool:
    [server] = store._servers
    return server._guard._rules.allow(source, f"{SERVICE}/GetSales").allowed


async def first_refusal(stub) -> grpc.aio.AioRpcError:
    async with asyncio.timeout(10):
        while True:
            try:
                await stub.GetSales(ASK)
            except grpc.aio.AioRpcError as error:
                return error


async def test_malformed_rules_let_in_nobody_and_say_so(coordinator, start):
    store, buyer = await start("bookstore"), await start("bookbuyer")
    port = await serving(store)
    buyers = stub(buyer, port)
    await buyers.GetSales(ASK)
    coordinator.env["MARBLE_ACCESS_RULES"] = b'[{"name": "broken"'
    with structlog.testing.capture_logs() as logs:
        await coordinator.rotate()
        refused = await first_refusal(buyers)
    assert refused.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE}
    assert any("not JSON" in str(entry.get("reason")) for entry in logs)
    await until(lambda: not store.status.ready)
    coordinator.env["MARBLE_ACCESS_RULES"] = rules(BOTH)
    await coordinator.rotate()
    await until(lambda: store.status.ready)
    await buyers.GetSales(ASK)


class Watched(Store):
    """Says one thing, and then nothing more."""

    async def WatchSales(self, request, context):
        yield bookstore_pb2.WatchSalesResponse()
        await asyncio.Event().wait()


class Named(bookstore_pb2_grpc.BookstoreServiceServicer):
    def __init__(self, name: str) -> None:
        self.name = name

    async def GetSales(self, request, context):
        return bookstore_pb2.GetSalesResponse(sales=bookstore_pb2.Sales(seller=self.name))


async def test_splits_are_followed_exactly_and_changed_without_a_restart(coordinator, start):
    ports = {}
    for name in ("bookstore", "bookstore-v2"):
        marble = await start(name)
        ports[name] = await marble.server((ADD, Named(name))).start()
    coordinator.env["MARBLE_TRAFFIC_SPLITS"] = b'{"bookstore": {"bookstore": 75, "bookstore-v2": 25}}'
    buyer = await start("bookbuyer")
    channel = buyer.split_channel("bookstore", {name: f"127.0.0.1:{port}" for name, port in ports.items()})
    shop = bookstore_pb2_grpc.BookstoreServiceStub(channel)

    async def shares(calls: int) -> dict[str, int]:
        answers = [(await shop.GetSales(ASK)).sales.seller for _ in range(calls)]
        return dict(collections.Counter(answers))

    assert await shares(200) == {"bookstore": 150, "bookstore-v2": 50}
    for weights, expected in (
        ({"bookstore": 1, "bookstore-v2": 1}, {"bookstore": 50, "bookstore-v2": 50}),
        ({"bookstore": 0, "bookstore-v2": 100}, {"bookstore-v2": 100}),
    ):
        coordinator.env["MARBLE_TRAFFIC_SPLITS"] = json.dumps({"bookstore": weights}).encode()
        await coordinator.rotate()
        await until(lambda: dict(channel.weights) == weights)  # noqa: B023  # it is awaited here
        assert await shares(100) == expected
    coordinator.env["MARBLE_TRAFFIC_SPLITS"] = b'{"bookstore": {"bookstore": 1, "bookstore-v3": 1}}'
    with structlog.testing.capture_logs() as logs:
        await coordinator.rotate()
        await until(lambda: "bookstore-v3" in channel.weights)
    assert any(entry["event"] == "channel.no_address" for entry in logs)
    results = await asyncio.gather(*(answer(shop) for _ in range(4)))
    assert sorted(results) == ["UNAVAILABLE", "UNAVAILABLE", "bookstore", "bookstore"]


async def answer(shop) -> str:
    try:
        return (await shop.GetSales(ASK)).sales.seller
    except grpc.aio.AioRpcError as error:
        return error.code().name


async def test_a_split_without_an_address_is_an_error_at_once(coordinator, start):
    coordinator.env["MARBLE_TRAFFIC_SPLITS"] = b'{"bookstore": {"bookstore": 1, "bookstore-v2": 1}}'
    buyer = await start("bookbuyer")
    with pytest.raises(ConfigurationError, match="a type has no address: got bookstore-v2"):
        buyer.split_channel("bookstore", {"bookstore": "127.0.0.1:1"})


async def test_what_is_not_split_goes_to_the_root(coordinator, start):
    store, buyer = await start("bookstore"), await start("bookbuyer")
    port = await serving(store)
    channel = buyer.split_channel("bookstore", {"bookstore": f"127.0.0.1:{port}", "bookstore-v2": "127.0.0.1:1"})
    assert isinstance(channel, SplitChannel)
    shop = bookstore_pb2_grpc.BookstoreServiceStub(channel)
    assert [await answer(shop) for _ in range(10)] == ["bookbuyer"] * 10


@pytest.mark.parametrize("weights", [{"a": 1}, {"a": 3, "b": 1}, {"a": 50, "b": 50}, {"a": 1, "b": 2, "c": 97}])
def test_shares_are_exact_in_every_round(weights):
    shares = Shares(weights)
    for _ in range(3):
        turns = collections.Counter(shares.next() for _ in range(sum(weights.values())))
        assert turns == weights


async def test_headers_are_asked_for_where_they_count(world):
    server = await world.serve(Store())
    by_header = Match(path=Pattern(f"{SERVICE}/GetSales"), headers=(("client-app", Pattern("book.*,.*")),))
    server.set_rules(AccessRules([AccessRule("by-header", ("bookbuyer",), (by_header,))]))
    shop = bookstore_pb2_grpc.BookstoreServiceStub(world.channel(server.port))
    metadata = (("client-app", "bookbuyer"), ("client-app", "again"))
    await shop.GetSales(ASK, metadata=metadata)
    for wrong in (None, metadata[:1], (("client-app", "thief"),)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await shop.GetSales(ASK, metadata=wrong)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await shop.GetSales(ASK, metadata=metadata)


async def test_set_rules_ends_the_streams_of_who_may_not_call_any_longer(world):
    server = await world.serve(Watched())
    shop = bookstore_pb2_grpc.BookstoreServiceStub(world.channel(server.port))
    watching = shop.WatchSales(bookstore_pb2.WatchSalesRequest())
    await watching.read()
    server.set_rules(AccessRules())
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(watching.read(), 5)
    assert ended.value.code() is grpc.StatusCode.PERMISSION_DENIED
