# gRPC methods are named as in the .proto
"""Real mutual TLS on loopback: who gets in, who does not, and what callers are told."""

from __future__ import annotations

import asyncio
import ssl
import time

import grpc
import grpclib.client
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from marble_pki import SERVICE, MarblePki

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2, bookstore_pb2_grpc
from confidential_bookstore.errors import ConfigurationError, NotFound, OutOfStock, PolicyDenied, StoreUnavailable
from confidential_bookstore.marble.credentials import channel_credentials
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.interceptors import MAXIMUM_STREAMS_PER_TYPE
from confidential_bookstore.marble.peer import current_peer
from confidential_bookstore.marble.tls import unverified_context

ASK = bookstore_pb2.GetSalesRequest()


class Store(bookstore_pb2_grpc.BookstoreServiceServicer):
    """Tells callers who they are; other methods raise what the test asks for."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.peers: list[tuple[str, str]] = []
        self.release = asyncio.Event()
        self.started = asyncio.Event()

    async def GetSales(self, request, context):
        peer = current_peer()
        self.peers.append((peer.marble_type, peer.uuid))
        return bookstore_pb2.GetSalesResponse(sales=bookstore_pb2.Sales(seller=peer.marble_type))

    async def GetBook(self, request, context):
        if self.error:
            raise self.error
        return bookstore_pb2.GetBookResponse()

    async def BuyBook(self, request, context):
        self.started.set()
        await self.release.wait()
        return bookstore_pb2.BuyBookResponse(replayed=True)

    async def WatchSales(self, request, context):
        for orders in range(3):
            yield bookstore_pb2.WatchSalesResponse(
                sales=bookstore_pb2.Sales(seller=current_peer().marble_type, orders=orders)
            )
        if self.error:
            raise self.error


async def test_attested_peer_is_known_by_type_and_uuid(world):
    store = Store()
    server = await world.serve(store)
    stub = world.stub(server.port, world.identity("bookbuyer", uuid="5e0b2f6e-0000-4000-8000-000000000001"))
    assert (await stub.GetSales(ASK)).sales.seller == "bookbuyer"
    assert store.peers == [("bookbuyer", "5e0b2f6e-0000-4000-8000-000000000001")]
    assert world.status.as_json()["counters"]["calls_total"] == 1


@pytest.mark.parametrize("requested", ["localhost", "spiffe://marbles.internal/marble/bookbuyer"])
async def test_names_that_a_host_asked_for_do_not_count(world, failure, requested):
    """An original MarbleRun coordinator copies any DNS name from the request; the marble type is in its extension."""
    store = Store()
    server = await world.serve(store)
    for marble_type in ("bookbuyer", "bookthief"):
        identity = world.identity(marble_type, original=True, dns_names=(requested,))
        options = [("grpc.ssl_target_name_override", "localhost")]
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.secure_channel(address, channel_credentials(identity), options=options) as channel:
            call = bookstore_pb2_grpc.BookstoreServiceStub(channel).GetSales(ASK)
            if marble_type == "bookbuyer":
                await call
            else:
                assert (await failure(call)).code() is grpc.StatusCode.PERMISSION_DENIED
    assert [marble_type for marble_type, _ in store.peers] == ["bookbuyer"]


async def test_no_channel_where_the_coordinator_reserves_no_names(world):
    """There, a thief's certificate may have any DNS name, also the one that a bookstore would have."""
    identity = world.identity("bookbuyer", original=True)
    with pytest.raises(ConfigurationError, match="reserves no names"):
        world.channel(1, identity)


async def test_streams_know_their_peer(world):
    server = await world.serve(Store())
    stub = world.stub(server.port)
    answers = [answer.sales async for answer in stub.WatchSales(bookstore_pb2.WatchSalesRequest())]
    assert [(sales.seller, sales.orders) for sales in answers] == [("bookbuyer", n) for n in range(3)]


async def test_denied_by_default_names_the_rule(world, failure):
    store = Store()
    server = await world.serve(store)
    thief = world.stub(server.port, world.identity("bookthief"))
    with structlog.testing.capture_logs() as logs:
        error = await failure(thief.GetSales(ASK))
        watching = await failure(anext(aiter(thief.WatchSales(bookstore_pb2.WatchSalesRequest()))))
    assert error.code() is watching.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error.details() == f"bookthief may not call {SERVICE}/GetSales (rule: deny-by-default)"
    assert store.peers == []
    refusals = world.status.as_json()["refusals"]
    assert {"peer": "bookthief", "method": f"{SERVICE}/GetSales", "rule": "deny-by-default", "count": 1} in refusals
    assert [(e["event"], e["peer"], e["rule"]) for e in logs] == [("call.denied", "bookthief", "deny-by-default")] * 2


async def test_rules_are_per_method(world, failure):
    server = await world.serve(Store(), methods=("GetBook",))
    stub = world.stub(server.port)
    await stub.GetBook(bookstore_pb2.GetBookRequest())
    assert (await failure(stub.GetSales(ASK))).code() is grpc.StatusCode.PERMISSION_DENIED


async def test_server_of_another_marble_type_is_not_talked_to(world, failure):
    """A thief that sits at the bookstore's address has a certificate of the same deployment, but not the name."""
    store = Store()
    server = await world.serve(store, live=LiveIdentity(world.identity("bookthief")))
    error = await failure(world.stub(server.port).GetSales(ASK))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    refused = await world.channel(server.port).explain()
    assert refused is not None
    assert (refused.cause, refused.got, refused.expected) == ("wrong-marble-type", "bookthief", "bookstore")
    assert store.peers == []


@pytest.mark.parametrize("side", ["client", "server"])
async def test_another_deployment_is_refused_on_both_sides(world, failure, side):
    other = MarblePki()
    live = LiveIdentity(world.identity("bookstore", other if side == "server" else None))
    store = Store()
    server = await world.serve(store, live=live)
    stub = world.stub(server.port, world.identity("bookbuyer", other if side == "client" else None))
    assert (await failure(stub.GetSales(ASK))).code() is grpc.StatusCode.UNAVAILABLE
    assert store.peers == []


async def test_expired_certificate_is_refused(world, failure):
    server = await world.serve(Store())
    stub = world.stub(server.port, world.identity("bookbuyer", lifetime=-1))
    assert (await failure(stub.GetSales(ASK))).code() is grpc.StatusCode.UNAVAILABLE


async def test_plaintext_client_gets_nothing(world, failure):
    server = await world.serve(Store())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = bookstore_pb2_grpc.BookstoreServiceStub(channel)
        assert (await failure(stub.GetSales(ASK, timeout=5))).code() is grpc.StatusCode.UNAVAILABLE


async def test_client_without_a_certificate_gets_nothing(world, failure, pki):
    identity = world.identity("bookbuyer")
    server = await world.serve(Store())
    credentials = grpc.ssl_channel_credentials(identity.marble_root_pem)
    options = [("grpc.ssl_target_name_override", "bookstore.marbles.internal")]
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials, options=options) as channel:
        stub = bookstore_pb2_grpc.BookstoreServiceStub(channel)
        assert (await failure(stub.GetSales(ASK, timeout=5))).code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("highest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_calls_over_old_tls_are_refused(world, highest):
    """gRPC's own client cannot be held back to TLS 1.2, so another one calls."""
    identity = world.identity("bookbuyer")
    store = Store()
    server = await world.serve(store)
    context = unverified_context(chain_pem=identity.chain_pem, key_pem=identity.private_key_pem, alpn=("h2",))
    context.maximum_version = highest
    async with grpclib.client.Channel("127.0.0.1", server.port, ssl=context) as channel:
        get_sales = grpclib.client.UnaryUnaryMethod(
            channel, f"{SERVICE}/GetSales", bookstore_pb2.GetSalesRequest, bookstore_pb2.GetSalesResponse
        )
        if highest is ssl.TLSVersion.TLSv1_3:
            assert (await get_sales(ASK)).sales.seller == "bookbuyer"
        else:
            with pytest.raises(grpclib.GRPCError, match=r"TLSv1.2 \(rule: tls-1.3-only\)"):
                await get_sales(ASK)
            assert store.peers == []


@pytest.mark.parametrize(
    ("error", "code", "details"),
    [
        (NotFound("no such book", got="x"), "NOT_FOUND", "no such book: got x"),
        (OutOfStock("too few copies"), "FAILED_PRECONDITION", "too few copies"),
        (StoreUnavailable("the store is away"), "UNAVAILABLE", "the store is away"),
        (PolicyDenied("not yours", rule="sellers-only"), "PERMISSION_DENIED", "not yours (rule: sellers-only)"),
        (TimeoutError(), "DEADLINE_EXCEEDED", "the call took longer than this service allows"),
        (RuntimeError("password is hunter2"), "INTERNAL", "internal error"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_errors_become_statuses(world, failure, error, code, details):
    server = await world.serve(Store(error))
    stub = world.stub(server.port)
    with structlog.testing.capture_logs() as logs:
        seen = await failure(stub.GetBook(bookstore_pb2.GetBookRequest()))
    assert (seen.code().name, seen.details()) == (code, details)
    assert [e["exc_info"] for e in logs if e["event"] == "call.failed"] == ([error] if code == "INTERNAL" else [])


async def test_errors_of_streams_become_statuses(world, failure):
    server = await world.serve(Store(NotFound("gone")))
    answers = aiter(world.stub(server.port).WatchSales(bookstore_pb2.WatchSalesRequest()))
    for _ in range(3):
        await anext(answers)
    error = await failure(anext(answers))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "gone")


async def test_abort_by_a_servicer_passes_through(world, failure):
    class Aborting(Store):
        async def GetBook(self, request, context):
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "mine")

    server = await world.serve(Aborting())
    error = await failure(world.stub(server.port).GetBook(bookstore_pb2.GetBookRequest()))
    assert (error.code(), error.details()) == (grpc.StatusCode.ALREADY_EXISTS, "mine")


async def test_synchronous_servicer_is_refused(world, failure):
    class Blocking(Store):
        def GetBook(self, request, context):
            return bookstore_pb2.GetBookResponse()

    with pytest.raises(ConfigurationError, match="must be async"):
        await world.serve(Blocking())


async def test_unimplemented_method(world, failure):
    server = await world.serve(Store())
    error = await failure(world.stub(server.port).ListBooks(bookstore_pb2.ListBooksRequest()))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_channel_gives_calls_a_deadline(world, failure):
    server = await world.serve(Store())
    stub = world.stub(server.port, default_deadline=0.2)
    error = await failure(stub.BuyBook(bookstore_pb2.BuyBookRequest()))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("asked", [None, 3600.0])
async def test_server_bounds_calls_that_ask_for_too_much(world, failure, asked):
    server = await world.serve(Store(), maximum_unary_seconds=0.2)
    stub = world.stub(server.port, default_deadline=asked)
    error = await failure(stub.BuyBook(bookstore_pb2.BuyBookRequest(), timeout=asked))
    assert error.details() == "the call took longer than this service allows"


async def test_calls_at_once_are_bounded(world, failure):
    store = Store()
    server = await world.serve(store, maximum_concurrent_calls=1)
    stub = world.stub(server.port)
    call = stub.BuyBook(bookstore_pb2.BuyBookRequest())
    await store.started.wait()
    watching = anext(aiter(stub.WatchSales(bookstore_pb2.WatchSalesRequest())))
    for refused in (stub.GetSales(ASK), watching):
        assert (await failure(refused)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    store.release.set()
    await call
    await stub.GetSales(ASK)


async def test_no_marble_type_takes_all_streams(world, failure):
    server = await world.serve(Store())

    def watch(marble_type: str):
        health = health_pb2_grpc.HealthStub(world.channel(server.port, world.identity(marble_type)))
        return health.Watch(health_pb2.HealthCheckRequest())

    thief = health_pb2_grpc.HealthStub(world.channel(server.port, world.identity("bookthief")))
    held = [thief.Watch(health_pb2.HealthCheckRequest()) for _ in range(MAXIMUM_STREAMS_PER_TYPE)]
    for stream in held:
        await stream.read()
    assert (await failure(watch("bookthief").read())).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await watch("bookbuyer").read()).status == health_pb2.HealthCheckResponse.SERVING
    held[0].cancel()
    await asyncio.sleep(0.1)
    assert (await watch("bookthief").read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_server_that_does_not_serve_says_so_and_serves_nobody(world, failure):
    server = await world.serve(Store())
    channel = world.channel(server.port)
    stub, health = bookstore_pb2_grpc.BookstoreServiceStub(channel), health_pb2_grpc.HealthStub(channel)
    await stub.GetSales(ASK)
    await server.set_serving(serving=False)
    assert (await failure(stub.GetSales(ASK))).code() is grpc.StatusCode.UNAVAILABLE
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await server.set_serving(serving=True)
    await stub.GetSales(ASK)


async def test_streams_do_not_hold_up_a_server_that_stops(world, failure):
    server = await world.serve(Store())
    health = health_pb2_grpc.HealthStub(world.channel(server.port, world.identity("bookbuyer")))
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    started = time.monotonic()
    await server.stop(grace=20)
    assert time.monotonic() - started < 2
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert (await failure(watch.read())).code() is grpc.StatusCode.UNAVAILABLE


async def test_connection_ends_with_its_callers_certificate(world, failure):
    """The handshake was in time; a call after the certificate's end is refused, and a stream is cut at it."""
    server = await world.serve(Store())
    stub = world.stub(server.port, world.identity("bookbuyer", lifetime=2))
    await stub.GetSales(ASK)
    health = health_pb2_grpc.HealthStub(world.channel(server.port, world.identity("bookthief", lifetime=2)))
    watch = health.Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    assert (await failure(watch.read())).code() is grpc.StatusCode.UNAVAILABLE
    error = await failure(stub.GetSales(ASK))
    assert error.details() == "the caller's certificate has expired (rule: valid-certificates-only)"


async def test_oversized_message_is_refused(world, failure):
    server = await world.serve(Store())
    request = bookstore_pb2.GetBookRequest(book_id="x" * (4 * 1024 * 1024 + 1))
    error = await failure(world.stub(server.port).GetBook(request))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_and_reflection_are_open_to_every_marble_but_to_marbles_only(world, failure):
    server = await world.serve(Store())
    channel = world.channel(server.port, world.identity("bookthief"))
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", SERVICE.strip("/")):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await server.set_serving(serving=False)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    listed = await anext(aiter(stub.ServerReflectionInfo(asked)))
    assert SERVICE.strip("/") in [service.name for service in listed.list_services_response.service]


async def test_reflection_can_be_left_out(world, failure):
    server = await world.serve(Store(), reflection_enabled=False)
    stub = reflection_pb2_grpc.ServerReflectionStub(world.channel(server.port))
    error = await failure(stub.ServerReflectionInfo().read())  # sends nothing, which could cross the answer
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_stop_lets_calls_finish_and_takes_no_new_ones(world, failure):
    store = Store()
    server = await world.serve(store)
    stub = world.stub(server.port)
    call = stub.BuyBook(bookstore_pb2.BuyBookRequest())
    await store.started.wait()
    stopping = asyncio.create_task(server.stop(5))
    await asyncio.sleep(0.1)
    assert (await failure(stub.GetSales(ASK, timeout=1))).code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    store.release.set()
    assert (await call).replayed
    await stopping


async def test_port_that_is_taken_and_server_without_servicer(world):
    server = await world.serve(Store())
    from confidential_bookstore.marble.server import MarbleServer
    from confidential_bookstore.policy.access import AccessRules

    live = LiveIdentity(world.identity("bookstore"))
    add = bookstore_pb2_grpc.add_BookstoreServiceServicer_to_server
    again = MarbleServer(
        live, [(add, Store())], address=f"127.0.0.1:{server.port}", rules=AccessRules(), status=world.status
    )
    with pytest.raises(ConfigurationError, match="cannot listen"):
        await again.start()
    with pytest.raises(ConfigurationError, match="at least one servicer"):
        MarbleServer(live, [], address="127.0.0.1:0", rules=AccessRules(), status=world.status)


async def test_registration_that_registers_nothing(world):
    from confidential_bookstore.marble.server import MarbleServer
    from confidential_bookstore.policy.access import AccessRules

    live = LiveIdentity(world.identity("bookstore"))
    nothing = [(lambda servicer, server: None, Store())]
    with pytest.raises(ConfigurationError, match="not registered: got Store"):
        MarbleServer(live, nothing, address="127.0.0.1:0", rules=AccessRules(), status=world.status)


def test_current_peer_outside_a_call():
    with pytest.raises(ConfigurationError):
        current_peer()
