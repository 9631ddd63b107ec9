"""Updates of the manifest while everybody calls: those who stay notice nothing, those who go are out in seconds."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import time

import grpc
import grpclib.client
import pytest
import structlog
from fake_coordinator import BOOKSTORE, COORDINATOR_PACKAGE, FakeCoordinator
from grpc_health.v1 import health_pb2, health_pb2_grpc
from marble_pki import SERVICE, pem_of
from test_server_and_channel import ASK, Store

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2, bookstore_pb2_grpc
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.marble import Marble, MarbleSettings
from confidential_bookstore.marble.generations import REVOKED, Generations
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.tls import unverified_context

ADD = bookstore_pb2_grpc.add_BookstoreServiceServicer_to_server
RULES = json.dumps([{"name": "all", "sources": ["bookbuyer", "bookthief"], "matches": [{"path": f"{SERVICE}/.*"}]}])


@pytest.fixture
async def coordinator(platform, verifier):
    fake = FakeCoordinator(platform, verifier, env={"MARBLE_ACCESS_RULES": RULES.encode()})
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def stack():
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def start(platform, verifier, coordinator, tmp_path):
    """Starts a marble; all end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(marble_type: str, number: int = 0) -> Marble:
            environ = {
                "EDG_MARBLE_TYPE": marble_type,
                "EDG_MARBLE_COORDINATOR_ADDR": f"127.0.0.1:{coordinator.mesh_port}",
                "CBS_COORDINATOR_CLIENT_ADDR": f"127.0.0.1:{coordinator.client_port}",
                "CBS_LISTEN_ADDR": "127.0.0.1:0",
                "CBS_STATUS_ADDR": "127.0.0.1:0",
                "CBS_DATA_DIR": str(tmp_path / f"{marble_type}{number}"),
            }
            marble = Marble(
                MarbleSettings.from_environ(environ),
                platform=InProcessPlatform(platform, BOOKSTORE),
                verifier=verifier,
                coordinator_package=COORDINATOR_PACKAGE,
                environ=environ,
            )
            return await stack.enter_async_context(marble)

        yield start


async def serving(marble: Marble) -> int:
    port = await marble.server((ADD, Store())).start()
    marble.status.set_ready()
    return port


def stub(marble: Marble, port: int) -> bookstore_pb2_grpc.BookstoreServiceStub:
    return bookstore_pb2_grpc.BookstoreServiceStub(marble.channel("bookstore", f"127.0.0.1:{port}"))


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # any condition
            await asyncio.sleep(0.02)


class Calling:
    """A client that calls and calls; `failures` has time and status of what failed."""

    def __init__(self, stub) -> None:
        self.answers = 0
        self.failures: list[tuple[float, grpc.StatusCode, str]] = []
        self._task = asyncio.create_task(self._run(stub))

    async def _run(self, stub) -> None:
        while True:
            try:
                await stub.GetSales(ASK)
                self.answers += 1
            except grpc.aio.AioRpcError as error:
                self.failures.append((time.time(), error.code(), error.details()))
            await asyncio.sleep(0.005)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@contextlib.asynccontextmanager
async def another_client(marble: Marble, port: int):
    """A client that keeps its connection whatever the coordinator says; gives the transport, after one call."""
    identity = marble.identity
    context = unverified_context(chain_pem=identity.chain_pem, key_pem=identity.private_key_pem, alpn=("h2",))
    async with grpclib.client.Channel("127.0.0.1", port, ssl=context) as channel:
        await grpclib.client.UnaryUnaryMethod(
            channel, f"{SERVICE}/GetSales", bookstore_pb2.GetSalesRequest, bookstore_pb2.GetSalesResponse
        )(ASK)
        yield channel._protocol.connection._transport


async def test_an_update_revokes_one_type_and_nobody_else_notices(coordinator, start, stack):
    store = await start("bookstore")
    port = await serving(store)
    buyers = [await start("bookbuyer", number) for number in range(3)]
    thief = await start("bookthief")
    thiefs_port = await serving(thief)
    calling = [Calling(stub(buyer, port)) for buyer in buyers for _ in range(2)]
    stealing = Calling(stub(thief, port))
    idle = await stack.enter_async_context(another_client(thief, port))
    health = health_pb2_grpc.HealthStub(thief.channel("bookstore", f"127.0.0.1:{port}"))
    watch = health.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    to_the_thief = buyers[0].channel("bookthief", f"127.0.0.1:{thiefs_port}")
    await bookstore_pb2_grpc.BookstoreServiceStub(to_the_thief).GetSales(ASK)
    await asyncio.sleep(1)
    assert not idle.is_closing()
    coordinator.refused_types = frozenset({"bookthief"})
    updated = time.time()
    with structlog.testing.capture_logs() as logs:
        await coordinator.rotate({"bookthief": 1.5})
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.read()
        assert ended.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert f"(rule: {REVOKED})" in ended.value.details()
        # a connection on which nobody calls is closed as well
        await until(idle.is_closing)
        assert time.time() - updated < 10
        await until(lambda: not thief.status.ready)
        await until(lambda: any(entry["event"] == "server.disconnected" for entry in logs))

    for each in [*calling, stealing]:
        await each.end()
    assert [each.failures for each in calling] == [[]] * len(calling)
    assert min(each.answers for each in calling) > 100
    assert all(marble.identity.marble_root_pem == pem_of(coordinator.pki.marble_root) for marble in [store, *buyers])
    first, *_ = stealing.failures
    assert first[1] is grpc.StatusCode.PERMISSION_DENIED
    assert first[2] == (
        "an update of the manifest has revoked the certificates of bookthief of generation 0; the present one is 1"
        f" (rule: {REVOKED})"
    )
    assert 1.4 < first[0] - updated < 3
    events = collections.Counter(entry["event"] for entry in logs)
    assert events["marble.revoked"] == 1
    assert events["server.disconnected"] >= 1
    assert any(entry["event"] == "renewal.denied" and entry["revoked"] for entry in logs)
    assert thief.status.reason == "revoked by a manifest update"
    # and the thief is not called any longer, by those who hear why
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bookstore_pb2_grpc.BookstoreServiceStub(to_the_thief).GetSales(ASK)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    cause = await to_the_thief.explain()
    assert cause is not None
    assert cause.cause == REVOKED


def root_of(pki) -> str:
    return pem_of(pki.marble_root).decode()


async def test_a_raised_package_costs_no_call_of_those_who_pass(coordinator, start):
    """The type is revoked in five seconds; by then its marbles have other certificates, on both sides of the calls."""
    store, buyer = await start("bookstore"), await start("bookbuyer")
    port = await serving(store)
    calling = [Calling(stub(buyer, port)) for _ in range(3)]
    await asyncio.sleep(0.5)
    await coordinator.rotate({"bookstore": 2.0, "bookbuyer": 2.0})
    await asyncio.sleep(4.5)
    for each in calling:
        await each.end()
    assert [each.failures for each in calling] == [[]] * len(calling)
    assert store.status.ready
    assert not store._live.revoked
    assert not buyer._live.revoked


async def test_several_updates_in_a_row(coordinator, start):
    store, buyer = await start("bookstore"), await start("bookbuyer")
    port = await serving(store)
    calling = Calling(stub(buyer, port))
    for _ in range(4):
        await coordinator.rotate()
        await asyncio.sleep(0.4)
    await until(lambda: not (store._live.outdated or buyer._live.outdated))
    await until(lambda: buyer.identity.marble_root_pem == pem_of(coordinator.pki.marble_root))
    await calling.end()
    assert calling.failures == []


async def test_a_renewal_that_brings_an_old_generation_is_repeated(coordinator, start):
    """One of several coordinators may not have heard of the update yet."""
    store = await start("bookstore")
    coordinator.stale = [coordinator.pki] * 2
    await coordinator.rotate()
    await until(lambda: store._live.generations.number == 1 and not store._live.outdated)
    assert len(coordinator.activations) == 4


async def test_a_marble_that_starts_with_an_old_generation_renews_at_once(coordinator, start):
    before = coordinator.pki
    await coordinator.rotate()
    coordinator.stale = [before]
    store = await start("bookstore")
    await until(lambda: not store._live.outdated, 3)


async def test_a_marble_that_starts_late_talks_to_those_that_have_not_renewed(coordinator, start):
    store = await start("bookstore")
    port = await serving(store)
    await coordinator.rotate()
    buyer = await start("bookbuyer")
    assert buyer._live.generations.number == 1
    assert (await stub(buyer, port).GetSales(ASK)).sales.seller == "bookbuyer"


async def test_a_marble_that_was_refused_may_come_back_with_the_next_update(coordinator, start):
    thief = await start("bookthief")
    await serving(thief)
    coordinator.refused_types = frozenset({"bookthief"})
    await coordinator.rotate({"bookthief": 60.0})
    with structlog.testing.capture_logs() as logs:
        await until(lambda: any(entry["event"] == "renewal.denied" for entry in logs))
    assert thief.status.ready
    coordinator.refused_types = frozenset()
    await coordinator.rotate()
    await until(lambda: not thief._live.revoked)
    assert thief.status.ready


async def test_with_an_original_coordinator_everything_is_as_before(platform, verifier, coordinator, start):
    coordinator.generations_status = 405
    store, buyer = await start("bookstore"), await start("bookbuyer")
    port = await serving(store)
    assert (await stub(buyer, port).GetSales(ASK)).sales.seller == "bookbuyer"
    assert store._live.generations is None
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "generations"])


async def test_channel_closes_at_once_when_the_other_type_is_revoked(world, failure):
    """A call under way does not go on with a server that does not count any longer."""
    store = Store()
    server = await world.serve(store)
    live = LiveIdentity(world.identity("bookbuyer"))
    channel = world.channel(server.port, live)
    call = bookstore_pb2_grpc.BookstoreServiceStub(channel).BuyBook(bookstore_pb2.BuyBookRequest())
    await store.started.wait()
    present = world.pki.rotated()
    report = {
        "generation": 1,
        "marbleRoot": root_of(present),
        "previous": [
            {
                "generation": 0,
                "marbleRoot": root_of(world.pki),
                "until": time.time() + 60,
                "revoked": {"bookstore": time.time() - 1},
            }
        ],
    }
    live.learn(Generations.parse(report))
    with structlog.testing.capture_logs() as logs:
        channel.follow()
        error = await failure(call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error.details() == "an update of the manifest has revoked bookstore"
        again = bookstore_pb2_grpc.BookstoreServiceStub(channel).GetSales(ASK)
        assert (await failure(again)).code() is grpc.StatusCode.UNAVAILABLE
        await until(lambda: any(entry["event"] == "channel.unavailable" for entry in logs))
    [entry] = [entry for entry in logs if entry["event"] == "channel.unavailable"]
    assert entry["cause"] == REVOKED


async def test_a_caller_who_cancels_is_told_so_on_any_line(world):
    store = Store()
    server = await world.serve(store)
    channel = world.channel(server.port)
    calls = bookstore_pb2_grpc.BookstoreServiceStub(channel)
    call = calls.BuyBook(bookstore_pb2.BuyBookRequest())
    await store.started.wait()
    channel._line.ended = "closed"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    waiting = asyncio.create_task(_wait_for(calls.BuyBook(bookstore_pb2.BuyBookRequest())))
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def _wait_for(call):
    return await call


async def test_streams_on_a_line_that_is_closed_say_why(world, failure):
    server = await world.serve(Store())
    channel = world.channel(server.port)
    stub = health_pb2_grpc.HealthStub(channel)
    read, iterated = (stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2))
    await read.read()
    messages = aiter(iterated)
    await anext(messages)
    line = channel._line
    channel._retire(line, 0, "the reason")
    for waiting in (read.read(), anext(messages)):
        error = await failure(waiting)
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the reason")


async def test_cause_of_unavailable_is_logged_once_in_a_while(world, failure):
    channel = world.channel(1)
    calls = bookstore_pb2_grpc.BookstoreServiceStub(channel)
    with structlog.testing.capture_logs() as logs:
        for _ in range(5):
            assert (await failure(calls.GetSales(ASK))).code() is grpc.StatusCode.UNAVAILABLE
            await asyncio.sleep(0.1)
        await until(lambda: any(entry["event"] == "channel.unavailable" for entry in logs))
    [entry] = [entry for entry in logs if entry["event"] == "channel.unavailable"]
    assert (entry["cause"], entry["address"], entry["marble_type"]) == ("unreachable", "127.0.0.1:1", "bookstore")
