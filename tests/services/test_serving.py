"""What the services share: settings, fields, watching, one thread."""

from __future__ import annotations

import asyncio
import threading

import pytest
import structlog
from bookstore_world import KEY, until
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import BookstoreError, ConfigurationError, InvalidRequest
from confidential_bookstore.serving import fields
from confidential_bookstore.serving.environment import Environment
from confidential_bookstore.serving.latest import Latest
from confidential_bookstore.serving.process import run
from confidential_bookstore.serving.thread import DedicatedThread


def env(**variables: str) -> Environment:
    return Environment(variables)


def test_missing_variables_have_their_default_or_are_named():
    assert env().text("X", "fallback") == "fallback"
    assert env(X="").integer("X", 7, least=0, most=9) == 7
    assert env().seconds("X", 1.5) == 1.5
    with pytest.raises(ConfigurationError, match="environment variable X is missing") as caught:
        env(X="").text("X")
    assert "manifest" in caught.value.hint


@pytest.mark.parametrize("value", ["-1", "10", "1.0", "x", "\uff11", "0x1", " 1", "1_0", "9" * 30])
def test_a_wrong_number_is_named(value):
    with pytest.raises(ConfigurationError, match="environment variable X is wrong"):
        env(X=value).integer("X", 1, least=0, most=9)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "-inf", "x", "86401", "1,5"])
def test_a_wrong_duration_is_named(value):
    with pytest.raises(ConfigurationError, match="environment variable X is wrong"):
        env(X=value).seconds("X", 1)


@pytest.mark.parametrize("value", ["localhost:14001", "127.0.0.2:0", "[::1]:65535", "a-b.c:1"])
def test_addresses(value):
    assert env(X=value).address("X") == value


@pytest.mark.parametrize("value", ["localhost", ":1", "localhost:", "localhost:65536", "::1:80", "http://x:1", "a b:1"])
def test_a_wrong_address_is_named(value):
    with pytest.raises(ConfigurationError, match="environment variable X is wrong"):
        env(X=value).address("X")


def test_folders(tmp_path):
    assert env(X=str(tmp_path)).folder("X") == tmp_path
    with pytest.raises(ConfigurationError, match="a folder that can be written"):
        env(X=str(tmp_path / "nowhere")).folder("X")


def test_keys_are_secret_also_when_they_are_wrong():
    assert env(X=KEY.hex()).key("X").reveal() == KEY
    for wrong in (KEY.hex()[:-1], KEY.hex() + "0", "g" * 64):
        with pytest.raises(ConfigurationError) as caught:
            env(X=wrong).key("X")
        assert wrong not in caught.value.diagnostics()


@given(st.text())
def test_checks_of_text_accept_only_their_own_form(text):
    for check in (
        fields.checked_book_id,
        lambda value: fields.checked_uuid("f", value),
        lambda value: fields.checked_identity("f", value),
        lambda value: fields.checked_page(0, value)[1],
    ):
        try:
            accepted, refusal = check(text), ""
        except InvalidRequest as error:
            accepted, refusal = "", str(error)
        assert accepted.lower() in {"", text.lower()}
        assert (accepted + refusal).isascii()
        assert not set(accepted) & set(" '\"\\/;%\n")
        assert len(refusal) < 200


@given(st.uuids())
def test_every_uuid_is_accepted_in_any_case(uuid):
    assert fields.checked_uuid("f", str(uuid)) == str(uuid)
    assert fields.checked_uuid("f", str(uuid).upper()) == str(uuid)


async def test_watchers_get_the_value_now_and_the_latest_after_a_change():
    latest = Latest(0)
    watch = latest.watch()
    assert await anext(watch) == 0
    latest.set(1)
    latest.set(2)  # 1 is skipped: nobody queues
    assert await anext(watch) == 2
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    latest.set(2)  # an equal value is news, too
    assert await waiting == 2


async def test_a_watcher_that_leaves_takes_nobody_along():
    latest = Latest("a")
    watches = [latest.watch() for _ in range(3)]
    for watch in watches:
        await anext(watch)
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    latest.set("b")
    assert await waiting[0] == "b"
    assert await waiting[2] == "b"
    assert waiting[1].cancelled()


async def test_closing_ends_watches_after_the_last_value():
    latest = Latest(1)
    seen = []

    async def collect() -> None:
        seen.extend([value async for value in latest.watch()])

    collecting = asyncio.create_task(collect())
    await asyncio.sleep(0.01)
    latest.set(2)
    latest.close()
    async with asyncio.timeout(1):
        await collecting
    assert seen == [1, 2]
    assert [value async for value in latest.watch()] == [2]


async def test_the_thread_keeps_order_and_finishes_what_it_was_given():
    done = []
    go = threading.Event()
    with DedicatedThread("test") as thread:
        blocked = asyncio.create_task(thread.run(go.wait))
        queued = [asyncio.create_task(thread.run(done.append, number)) for number in range(3)]
        await asyncio.sleep(0.01)
        queued[1].cancel()
        blocked.cancel()
        await asyncio.sleep(0.01)
        assert queued[1].cancelled()
        go.set()
        await until(lambda: len(done) == 3)
        assert done == [0, 1, 2]
        names = {await thread.run(lambda: threading.current_thread().name) for _ in range(3)}
        assert len(names) == 1


async def test_the_thread_passes_errors_on(thread):
    def fail() -> None:
        raise BookstoreError("no")

    with pytest.raises(BookstoreError, match="no"):
        await thread.run(fail)


@pytest.fixture
def logging_unconfigured():
    """`run` sets up logging to this test's stderr, which is gone after it."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_unconfigured")
@pytest.mark.parametrize("nested", [0, 1, 2])
def test_our_own_errors_end_a_process_with_a_hint_and_their_exit_code(nested, capsys):
    async def serve(depth: int = nested) -> None:
        if not depth:
            raise ConfigurationError("no key", hint="set one")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve(depth - 1))

    with pytest.raises(SystemExit) as caught:
        run("test", serve)
    assert caught.value.code == 3
    shown = "".join(capsys.readouterr())
    assert "no key" in shown
    assert "set one" in shown


def test_a_fault_keeps_its_traceback():
    async def serve() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run("test", serve)
