# gRPC methods are named as in the .proto
"""A whole marble: activation, serving, renewal under load, expiry, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
import structlog
from fake_coordinator import BOOKSTORE, COORDINATOR_PACKAGE, FakeCoordinator
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpclib.const import Status
from marble_pki import SERVICE
from test_server_and_channel import Store

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2, bookstore_pb2_grpc
from confidential_bookstore.attestation.enclave import EnclaveConfig, MeasuredConfig
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble import Marble, MarbleSettings
from confidential_bookstore.marble.coordinator_trust import measured_package

RULES = json.dumps([{"name": "buys", "sources": ["bookbuyer"], "matches": [{"path": f"{SERVICE}/.*"}]}])
ADD = bookstore_pb2_grpc.add_BookstoreServiceServicer_to_server


@pytest.fixture
async def coordinator(platform, verifier):
    fake = FakeCoordinator(platform, verifier, env={"MARBLE_ACCESS_RULES": RULES.encode(), "GREETING": b"hello"})
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def environ(coordinator, tmp_path: Path) -> dict[str, str]:
    return {
        "EDG_MARBLE_COORDINATOR_ADDR": f"127.0.0.1:{coordinator.mesh_port}",
        "CBS_COORDINATOR_CLIENT_ADDR": f"127.0.0.1:{coordinator.client_port}",
        "CBS_LISTEN_ADDR": "127.0.0.1:0",
        "CBS_STATUS_ADDR": "127.0.0.1:0",
        "CBS_DATA_DIR": str(tmp_path),
    }


@pytest.fixture
def marble(platform, verifier, environ, tmp_path):
    def make(marble_type: str) -> Marble:
        own = environ | {"EDG_MARBLE_TYPE": marble_type, "CBS_DATA_DIR": str(tmp_path / marble_type)}
        return Marble(
            MarbleSettings.from_environ(own),
            platform=InProcessPlatform(platform, BOOKSTORE),
            verifier=verifier,
            coordinator_package=COORDINATOR_PACKAGE,
            environ=own,
        )

    return make


async def page(port: int, path: str) -> tuple[int, str]:
    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(get)


async def until(condition, seconds: float = 8.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # any condition
            await asyncio.sleep(0.02)


async def test_activated_marble(coordinator, marble, tmp_path):
    coordinator.files = {str(tmp_path / "conf/key"): b"secret"}
    coordinator.argv = ("bookstore",)
    async with marble("bookstore") as store:
        assert store.identity.marble_type == "bookstore"
        assert store.env["GREETING"] == "hello"
        assert store.argv == ("bookstore",)
        assert store._environ["MARBLE_PREDEFINED_ROOT_CA"].encode() == store.identity.marble_root_pem
        assert (tmp_path / "conf/key").read_bytes() == store.files[str(tmp_path / "conf/key")] == b"secret"
        assert (tmp_path / "bookstore/uuid").read_text() == store.identity.uuid
        assert await page(store.status_port, "/readyz") == (503, "activated, not serving yet\n")
        status = json.loads((await page(store.status_port, "/status.json"))[1])
        assert status["simulated"] is True
        assert (status["platform"], status["marbleType"]) == ("simulated", "bookstore")
        assert (status["uniqueID"], status["signerID"]) == ("62" * 32, "73" * 32)
        assert status["certificateExpires"].endswith("Z")
    assert [task for task in asyncio.all_tasks() if task.get_name() == "renewal"] == []


@pytest.mark.parametrize("named", ["", "ab" * 32])
def test_the_coordinator_is_of_the_marbles_own_signer_unless_another_is_measured(platform, named):
    wanted = {"productID": 1, "securityVersion": 7} | ({"signerID": named} if named else {})
    config = {"name": "x", "module": "x", "extra": "x", "productID": 3, "securityVersion": 1, "coordinator": wanted}
    measured = MeasuredConfig(config=EnclaveConfig.parse(json.dumps(config)), trust_root_pem=b"")
    package = measured_package(measured, InProcessPlatform(platform, BOOKSTORE))
    signer = named or BOOKSTORE.mr_signer.hex()
    assert package == Package(signer_id=signer, product_id=1, security_version=7)


async def test_identity_before_activation(marble):
    with pytest.raises(ConfigurationError, match="not activated"):
        _ = marble("bookstore").identity


async def test_two_marbles_talk_and_the_thief_is_denied(marble):
    async with marble("bookstore") as store, marble("bookbuyer") as buyer, marble("bookthief") as thief:
        server = store.server((ADD, Store()))
        port = await server.start()
        bookstore = bookstore_pb2_grpc.BookstoreServiceStub(buyer.channel("bookstore", f"127.0.0.1:{port}"))
        assert (await bookstore.GetSales(bookstore_pb2.GetSalesRequest())).sales.seller == "bookbuyer"
        stolen = bookstore_pb2_grpc.BookstoreServiceStub(thief.channel("bookstore", f"127.0.0.1:{port}"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stolen.GetSales(bookstore_pb2.GetSalesRequest())
        assert "(rule: deny-by-default)" in caught.value.details()
        assert 'rule="deny-by-default"} 1' in (await page(store.status_port, "/metrics"))[1]


async def test_renewal_under_load_without_a_failed_call(coordinator, marble):
    """Certificates of three seconds, ten seconds of calls: every one is answered, over several generations."""
    coordinator.lifetime = 3.0
    async with marble("bookstore") as store, marble("bookbuyer") as buyer:
        server = store.server((ADD, Store()))
        port = await server.start()
        stub = bookstore_pb2_grpc.BookstoreServiceStub(buyer.channel("bookstore", f"127.0.0.1:{port}"))
        until_then = asyncio.get_running_loop().time() + 10
        calls = 0

        async def call() -> None:
            nonlocal calls
            while asyncio.get_running_loop().time() < until_then:
                await stub.GetSales(bookstore_pb2.GetSalesRequest())
                calls += 1
                await asyncio.sleep(0.002)

        await asyncio.gather(*(call() for _ in range(8)))
        assert min(store._live.version, buyer._live.version) >= 3
        assert calls > 500
        assert store.status.counter("calls_total").value == calls


async def test_denied_renewal_ends_in_not_serving(coordinator, marble):
    async with contextlib.AsyncExitStack() as stack:
        buyer = await stack.enter_async_context(marble("bookbuyer"))
        coordinator.lifetime = 2.0
        store = await stack.enter_async_context(marble("bookstore"))
        server = store.server((ADD, Store()))
        port = await server.start()
        store.status.set_ready()
        health = health_pb2_grpc.HealthStub(buyer.channel("bookstore", f"127.0.0.1:{port}"))
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        coordinator.refuse = (Status.PERMISSION_DENIED, "marble verification failed")
        with structlog.testing.capture_logs() as logs:
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        events = [entry["event"] for entry in logs]
        assert "renewal.denied" in events
        assert "marble.expired" in events
        assert await page(store.status_port, "/readyz") == (
            503,
            "the certificate has expired and could not be renewed\n",
        )
        watch.cancel()


async def test_serves_again_when_the_coordinator_is_back_after_expiry(coordinator, marble):
    coordinator.lifetime = 1.0
    async with marble("bookstore") as store:
        await store.server((ADD, Store())).start()
        store.status.set_ready()
        coordinator.status = 503
        await until(lambda: not store.status.ready)
        coordinator.lifetime, coordinator.status = 60.0, 200
        await until(lambda: store.status.ready)
        assert not store._live.expired


async def test_coordinator_that_has_turned_is_not_given_a_renewal(coordinator, marble):
    coordinator.lifetime = 1.5
    async with marble("bookstore") as store:
        activations = len(coordinator.activations)
        coordinator.quote_over = b"replayed"
        with structlog.testing.capture_logs() as logs:
            await until(lambda: store._live.expired)
        assert len(coordinator.activations) == activations
        assert any("not accepted" in e["reason"] for e in logs if e["event"] == "renewal.failed")


async def test_renewal_goes_on_when_a_file_cannot_be_written(coordinator, marble):
    coordinator.lifetime = 1.5
    async with marble("bookstore") as store:
        coordinator.files = {"/proc/no-such-file": b""}
        with structlog.testing.capture_logs() as logs:
            await until(lambda: store._live.version >= 3)
        assert "renewal.incomplete" in [entry["event"] for entry in logs]


async def test_malformed_rules_stop_the_server(coordinator, marble):
    coordinator.env["MARBLE_ACCESS_RULES"] = b"[{}]"
    async with marble("bookstore") as store:
        with pytest.raises(ConfigurationError, match="access rule 0"):
            store.server((ADD, Store()))


async def test_without_rules_everything_is_denied(coordinator, marble):
    del coordinator.env["MARBLE_ACCESS_RULES"]
    async with marble("bookstore") as store, marble("bookbuyer") as buyer:
        port = await store.server((ADD, Store())).start()
        stub = bookstore_pb2_grpc.BookstoreServiceStub(buyer.channel("bookstore", f"127.0.0.1:{port}"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetSales(bookstore_pb2.GetSalesRequest())
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_failing_entry_leaves_nothing_behind(coordinator, marble):
    coordinator.refuse = (Status.PERMISSION_DENIED, "no")
    refused = marble("bookstore")
    with pytest.raises(Exception, match="no"):
        await refused.__aenter__()
    with pytest.raises(OSError, match="refused"):
        await page(refused.status_port, "/livez")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains_the_server(*, coordinator, environ, platform, tmp_path, verifier, marble, number):
    """In a process of its own: health NOT_SERVING first, the call in flight is answered, exit code 0."""
    platform.save(tmp_path / "platform")
    own = os.environ | environ | {"EDG_MARBLE_TYPE": "bookstore", "PLATFORM": str(tmp_path / "platform")}
    program = Path(__file__).with_name("serving_marble.py")
    process = await asyncio.create_subprocess_exec(sys.executable, program, env=own, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20), marble("bookbuyer") as buyer:
            port, status_port = (await process.stdout.readline()).split()
            channel = buyer.channel("bookstore", f"127.0.0.1:{port.decode()}")
            health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
            assert await page(int(status_port), "/readyz") == (200, "ready\n")
            call = bookstore_pb2_grpc.BookstoreServiceStub(channel).BuyBook(bookstore_pb2.BuyBookRequest())
            assert await process.stdout.readline() == b"buying\n"
            process.send_signal(number)
            assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            health.cancel()
            assert (await call).replayed
            assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
