"""One address in front of several coordinators, as a Kubernetes service is: TCP, round robin over the ready ones."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable
from typing import Self

_CHUNK = 64 * 1024


class Balancer:
    """Use it as an async context manager. A connection goes to the next host that accepts it.

    Args:
        ready: the hosts of this moment.
        port: that they listen on.

    Attributes:
        port: on 127.0.0.1.
        served: how many connections each host has got.
    """

    def __init__(self, ready: Callable[[], Iterable[str]], port: int) -> None:
        self._ready = ready
        self._target_port = port
        self._turn = itertools.count()
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0
        self.served: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._forward(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with _closing(writer):
            for host in self._in_turn():
                try:
                    there = await asyncio.open_connection(host, self._target_port)
                except OSError:
                    continue
                self.served[host] = self.served.get(host, 0) + 1
                async with _closing(there[1]):
                    await _until_one_ends(_pump(reader, there[1]), _pump(there[0], writer))
                return

    def _in_turn(self) -> list[str]:
        hosts = list(self._ready())
        first = next(self._turn) % len(hosts) if hosts else 0
        return hosts[first:] + hosts[:first]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()


async def _until_one_ends(*pumps) -> None:
    tasks = [asyncio.create_task(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter):
    try:
        yield
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
