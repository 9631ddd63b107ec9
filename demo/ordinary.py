"""The bookstore as ordinary processes, with sidecars or without: what there is before anything is attested."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
from collections.abc import Callable
from typing import Self

from demo.addresses import require_free
from demo.launching import as_it_is
from demo.mesh import Mesh
from demo.observation import Observation, observe
from demo.supervisor import Program, Supervisor
from demo.topology import SERVICES, Topology
from demo.workspace import Workspace


class OrdinarySystem:
    """Use it as an async context manager: inside, everything runs.

    It begins anew at every start: its store is encrypted with a key that is thrown away.

    Args:
        workspace: of this stage; logs go there.
        topology: of this stage; its state is removed.
        mesh: the sidecars, if there are any.
        report: told what is being done.
    """

    def __init__(
        self,
        workspace: Workspace,
        topology: Topology,
        *,
        mesh: Mesh | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.workspace = workspace
        self.topology = topology
        self.supervisor = Supervisor()
        self.mesh = mesh
        self._report = report
        self._cleanup = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        require_free(self.topology.listening(coordinator=False))
        await asyncio.to_thread(shutil.rmtree, self.topology.state, ignore_errors=True)
        async with contextlib.AsyncExitStack() as cleanup:
            await cleanup.enter_async_context(self.supervisor)
            self._report("starting four services and the thief as ordinary processes")
            if self.mesh is not None:
                self._report("starting the mesh, a sidecar for each of them")
                await self.mesh.start(self.supervisor, self.workspace.logs)
            keys = _given()
            await asyncio.gather(*(self._start(name, keys.get(name, {})) for name in SERVICES))
            if self.mesh is not None:
                await self.mesh.ready()
            self._cleanup = cleanup.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._cleanup.aclose()

    async def observe(self) -> Observation:
        """One look at everything."""
        return await observe(self.topology, self.mesh)

    async def _start(self, name: str, given: dict[str, str]) -> None:
        (self.topology.state / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "demo.plain", name]
        launch = as_it_is(command, self.topology.environment(name) | given)
        await self.supervisor.start(Program(name, launch, self.workspace.logs / f"{name}.log"))


def _given() -> dict[str, dict[str, str]]:
    """What marbles are given by the manifest."""
    return {
        "bookwarehouse": {"CBS_STORE_KEY": secrets.token_hex(32)},
        "bookstore": {"CBS_SELLER": "bookstore-v1"},
        "bookstore-v2": {"CBS_SELLER": "bookstore-v2"},
        "bookbuyer": {"CBS_JOURNAL_KEY": secrets.token_hex(32)},
    }
