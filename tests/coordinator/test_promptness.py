"""Nobody waits for what is not theirs: answers go out at once, and the event loop is shared."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import socket
import threading
from types import SimpleNamespace

from coordinator.deployment.activation import ActivationRequest
from coordinator.deployment.builders import Builders
from coordinator.marble_api import MarbleApi
from coordinator.monitoring.events import EventLog
from coordinator.monitoring.metrics import ActivationCounters, GrpcMetrics
from coordinator.transport.listener import Limits, open_listener
from coordinator.transport.turns import Turns


async def test_turns_come_one_in_a_pass_of_the_loop_and_in_order():
    turns, passes, taken = Turns(), 0, []

    async def worker(name: int) -> None:
        await turns.take()
        taken.append((name, passes))

    workers = [asyncio.create_task(worker(name)) for name in range(5)]
    while not all(task.done() for task in workers):
        passes += 1
        await asyncio.sleep(0)
    names, when = zip(*taken, strict=True)
    assert names == (0, 1, 2, 3, 4)
    assert len(set(when)) == 5


async def test_a_turn_of_somebody_who_left_is_passed_on():
    turns = Turns()
    first, second, third = (asyncio.create_task(turns.take()) for _ in range(3))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.wait_for(third, 5)
    assert first.cancelled()
    assert second.cancelled()
    await asyncio.wait_for(turns.take(), 5)


async def test_accepted_connections_send_at_once():
    """Nagle's algorithm would hold an answer of several pieces back for 40 ms."""
    accepted: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

    class Inside(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.set_result(transport)

    listener = await open_listener(("127.0.0.1", 0), lambda _: Inside(), context=None, limits=Limits())
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        transport = await asyncio.wait_for(accepted, 5)
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
    finally:
        await listener.stop(0)


async def test_connections_are_accepted_one_in_a_pass_of_the_loop():
    passes, backlog = 0, 8
    when = []

    class Inside(asyncio.Protocol):
        def connection_made(self, transport):
            when.append(passes)

    listener = await open_listener(("127.0.0.1", 0), lambda _: Inside(), context=None, limits=Limits())
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(backlog):
                stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
            while len(when) < backlog:
                passes += 1
                await asyncio.sleep(0)
    finally:
        await listener.stop(0)
    assert len(set(when)) == backlog


async def test_activations_begin_one_in_a_pass_of_the_loop():
    passes = 0
    begun = []

    class Counters(ActivationCounters):
        def attempted(self, *_):
            begun.append(passes)

    api = MarbleApi(
        live=SimpleNamespace(current=SimpleNamespace(manifest=None)),
        verifier=None,
        events=EventLog(),
        counters=Counters(),
        calls=GrpcMetrics(),
        builders=Builders(),
        trust_domain="marbles.internal",
        leaf_lifetime=dt.timedelta(hours=1),
    )
    request = ActivationRequest(marble_type="bookstore", uuid="", csr=b"", quote=b"")
    tasks = [asyncio.create_task(api.activate(request, None)) for _ in range(6)]
    while not all(task.done() for task in tasks):
        passes += 1
        await asyncio.sleep(0)
    assert all(task.exception() for task in tasks)  # there is no manifest
    assert len(set(begun)) == 6


async def test_rsa_keys_are_made_at_a_lower_priority_than_everything_else():
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    builders, mine = Builders(), niceness()
    try:
        assert await builders.run(niceness, slow=True) > mine
        assert await builders.run(niceness, slow=False) == niceness() == mine
    finally:
        builders.close()
