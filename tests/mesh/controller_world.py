"""A small mesh on loopback addresses of its own: a policy, a layout, callers, and a service that says yes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import grpc

from confidential_bookstore.errors import BookstoreError
from mesh.controller import MeshController
from mesh.events import Refusal

SERVICES = "deploy/manifests/smi"
VARIANTS = "deploy/manifests/smi-variants"
BUY = "/confidential_bookstore.api.bookstore.v1.BookstoreService/BuyBook"
SALES = "/confidential_bookstore.api.bookstore.v1.BookstoreService/GetSales"
STORE, BUYER, THIEF = "bookstore/bookstore", "bookbuyer/bookbuyer", "bookthief/bookthief"
_HOSTS = {STORE: 12, BUYER: 13, THIEF: 14}
_networks = itertools.count(1)


class Heard:
    """What the controller tells."""

    def __init__(self) -> None:
        self.versions: list[int] = []
        self.errors: list[BookstoreError] = []
        self.refusals: list[Refusal] = []

    def in_force(self, controller: MeshController) -> None:
        self.versions.append(controller.version)

    def refused_policy(self, error: BookstoreError) -> None:
        self.errors.append(error)

    def refused_call(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)


class MeshWorld:
    """`folder` is the mesh's; the store listens in plaintext behind its sidecar."""

    def __init__(self, folder: Path, project: Path) -> None:
        self.folder = folder
        self.project = project
        self.network = f"127.{os.getpid() % 100 + 100}.{next(_networks) % 250}"
        self.heard = Heard()
        self.policy = folder / "policy"
        shutil.copytree(project / SERVICES, self.policy)
        (self.policy / "bookwarehouse-access.yaml").unlink()
        (folder / "layout.json").write_text(json.dumps({"services": {key: self._placement(key) for key in _HOSTS}}))

    def _placement(self, key: str) -> dict[str, object]:
        host = f"{self.network}.{_HOSTS[key]}"
        outbound = {} if key == STORE else {STORE: f"{host}:16012"}
        return {"application": f"{host}:14001", "inbound": f"{host}:15003", "outbound": outbound}

    def controller(self, **options) -> MeshController:
        return MeshController(self.folder, seal=options.pop("seal", False), listener=self.heard, **options)

    def address(self, caller: str) -> str:
        """Where the caller's sidecar takes its calls to the store."""
        return f"{self.network}.{_HOSTS[caller]}:16012"

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[None]:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((_Yes(),))
        server.add_insecure_port(f"{self.network}.12:14001")
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)

    @contextlib.asynccontextmanager
    async def caller(self, key: str) -> AsyncIterator[grpc.aio.Channel]:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 100)]
        async with grpc.aio.insecure_channel(self.address(key), options=options) as channel:
            yield channel

    def put(self, source: Path, name: str) -> None:
        """A policy file, in one step."""
        unfinished = self.policy / f".{name}"
        shutil.copy(source, unfinished)
        unfinished.replace(self.policy / name)

    def let_in_thief(self) -> None:
        self.put(self.project / VARIANTS / "traffic-access-v1-allow-bookthief.yaml", "traffic-access-v1.yaml")

    def shut_out_thief(self) -> None:
        self.put(self.project / SERVICES / "traffic-access-v1.yaml", "traffic-access-v1.yaml")


class _Yes(grpc.GenericRpcHandler):
    def service(self, _details):
        async def yes(_request, _context):
            return b"yes"

        return grpc.unary_unary_rpc_method_handler(yes)


async def buy(channel: grpc.aio.Channel, method: str = BUY) -> str:
    """ "OK", or the name of the status."""
    try:
        await channel.unary_unary(method)(b"", timeout=2)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def seconds_until(condition: Callable[[], object], *, within: float = 10) -> float:
    """How long it takes until an (async) condition holds."""
    started = time.monotonic()
    while True:
        result = condition()
        if await result if asyncio.iscoroutine(result) else result:
            return time.monotonic() - started
        assert time.monotonic() - started < within, "it does not come"
        await asyncio.sleep(0.005)


class Load:
    """Calls without a pause, on one channel; all must succeed."""

    def __init__(self, channel: grpc.aio.Channel, *, at_once: int = 8) -> None:
        self._channel = channel
        self._at_once = at_once
        self.calls = 0
        self.failures: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._call()) for _ in range(self._at_once)]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self) -> None:
        while True:
            try:
                await self._channel.unary_unary(BUY)(b"", timeout=5)
                self.calls += 1
            except grpc.aio.AioRpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")
                await asyncio.sleep(0.01)
