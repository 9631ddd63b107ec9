"""The watch against a real HTTPS server: news, silence, absence, originals, and impostors."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import structlog
from fake_coordinator import FakeCoordinator
from marble_pki import MarblePki

from confidential_bookstore.marble.generation_watch import GenerationWatch
from confidential_bookstore.marble.identity import LiveIdentity


@pytest.fixture
async def coordinator(platform, verifier):
    fake = FakeCoordinator(platform, verifier)
    await fake.start()
    yield fake
    await fake.stop()


class Watching:
    def __init__(self, coordinator, live):
        self.live = live
        self.changes = 0
        self.woken = asyncio.Event()
        self.watch = GenerationWatch(f"127.0.0.1:{coordinator.client_port}", live, self.changed)

    def changed(self):
        self.changes += 1
        self.woken.set()

    async def next(self, seconds=8.0):
        async with asyncio.timeout(seconds):
            await self.woken.wait()
        self.woken.clear()


@pytest.fixture
def watching(coordinator, world):
    return Watching(coordinator, LiveIdentity(world.identity("bookbuyer", coordinator.pki)))


@contextlib.asynccontextmanager
async def running(watching):
    task = asyncio.create_task(watching.watch.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_news_comes_within_a_moment(coordinator, watching):
    async with running(watching):
        await watching.next()
        assert watching.live.generations.number == 0
        for number in (1, 2):
            loop = asyncio.get_running_loop()
            await coordinator.rotate({"bookthief": 5.0})
            rotated = loop.time()
            await watching.next()
            assert loop.time() - rotated < 1
            assert watching.live.generations.number == number
        assert watching.live.outdated
        assert set(watching.live.generations.previous[0].revoked) == {"bookthief"}
    assert coordinator.watched <= 4  # it waits, it does not poll


async def test_silence_is_no_news_and_no_storm(coordinator, watching):
    coordinator.hold = 0.0
    async with running(watching):
        await watching.next()
        await asyncio.sleep(1.5)
    assert watching.changes == 1
    assert coordinator.watched <= 3


async def test_what_was_known_stays_in_force_while_the_coordinator_is_away(coordinator, watching):
    coordinator.hold = 0.2
    async with running(watching):
        await watching.next()
        coordinator.generations_status = 503
        with structlog.testing.capture_logs() as logs:
            while not logs:  # noqa: ASYNC110  # logs have no event
                await asyncio.sleep(0.02)
        assert logs[0]["event"] == "generations.away"
        assert watching.live.generations.number == 0
        await coordinator.rotate()
        coordinator.generations_status = 200
        await watching.next()
        assert watching.live.generations.number == 1


async def test_an_original_coordinator_tells_nothing(platform, verifier, world):
    coordinator = FakeCoordinator(platform, verifier, original=True)
    await coordinator.start()
    try:
        watching = Watching(coordinator, LiveIdentity(world.identity("bookbuyer", coordinator.pki)))
        with structlog.testing.capture_logs() as logs:
            await watching.watch.first()
            async with asyncio.timeout(5):
                await watching.watch.run()
        assert [entry["event"] for entry in logs] == ["generations.none"]
        assert (watching.live.generations, watching.changes) == (None, 0)
    finally:
        await coordinator.stop()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"data": null}', b"{" * 100_000, b'{"data": {"generation": 1}}', b"x" * (1 << 20) * 2],
)
async def test_answers_that_are_none(coordinator, watching, body):
    coordinator.generations_body = body
    with structlog.testing.capture_logs() as logs:
        await watching.watch.first()
    assert [entry["event"] for entry in logs] == ["generations.unknown"]
    assert watching.live.generations is None


async def test_the_coordinator_does_not_go_back(coordinator, watching):
    await coordinator.rotate()
    await watching.watch.first()
    coordinator.generation, coordinator.previous = 0, []
    with structlog.testing.capture_logs() as logs:
        await watching.watch.first()
    assert "gone back" in logs[0]["reason"]
    assert watching.live.generations.number == 1


async def test_only_the_coordinators_own_certificate_will_do(coordinator, world):
    other = MarblePki()
    watching = Watching(coordinator, LiveIdentity(world.identity("bookbuyer", other)))
    with structlog.testing.capture_logs() as logs:
        await watching.watch.first()
    assert "does not show the coordinator's certificate" in logs[0]["reason"]
    assert coordinator.watched == 0


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"nonsense\r\n\r\n",
               b"HTTP/1.1 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"y" * 200_000],
)  # fmt: skip
async def test_servers_that_speak_something_else(coordinator, watching, answer, tmp_path):
    import ssl

    from marble_pki import key_pem_of, pem_of

    (tmp_path / "pem").write_bytes(key_pem_of(coordinator.pki.root_key) + pem_of(coordinator.pki.root))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        watch = GenerationWatch(f"127.0.0.1:{port}", watching.live, watching.changed)
        with structlog.testing.capture_logs() as logs:
            await watch.first()
    assert [entry["event"] for entry in logs] == ["generations.unknown"]


async def test_nobody_is_there(watching):
    watch = GenerationWatch("127.0.0.1:1", watching.live, watching.changed)
    with structlog.testing.capture_logs() as logs:
        await watch.first()
    assert "no answer" in logs[0]["reason"]
