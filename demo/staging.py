"""Puts a stage on: what has to run for it, and which story is told about it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from demo.mesh import Mesh, has_envoy
from demo.ordinary import OrdinarySystem
from demo.outcome import Outcome, Report
from demo.stages import Stage
from demo.stories import confidential, mesh, plain
from demo.system import System
from demo.topology import Topology
from demo.workspace import Workspace

Running = OrdinarySystem | System

_SETTINGS = {"bookthief": {"CBS_STEAL_INTERVAL": "0.5"}}


@contextlib.asynccontextmanager
async def started(
    stage: Stage, workspace: Workspace, network: str, *, permissive: bool = False, report: Callable[[str], None]
) -> AsyncGenerator[Running, None]:
    """Inside, everything of that stage runs.

    Args:
        stage: `mesh` needs Envoy; `confidential` has sidecars where there is one.
        workspace: where keys, state and logs are kept.
        network: first three numbers of the addresses.
        permissive: whether the mesh begins in permissive mode.
        report: told what is being done; may raise to end it.

    Raises:
        ConfigurationError: an address is taken.
        EnvoyMissing: there is no Envoy, and the stage needs it (or this is CI).
    """
    sidecars = stage is not Stage.PLAIN and has_envoy()
    folders = workspace if stage is Stage.CONFIDENTIAL else workspace.ordinary(stage)
    topology = Topology(network, folders.state.resolve(), _SETTINGS, sidecars=sidecars)
    beside = Mesh(workspace.mesh, topology, stage, permissive=permissive) if sidecars else None
    system: Running
    if stage is Stage.CONFIDENTIAL:
        platform = workspace.platform()
        enclaves = await asyncio.to_thread(workspace.enclaves, platform, report)
        system = System(workspace, topology, platform, enclaves, mesh=beside, report=report)
    else:
        system = OrdinarySystem(folders, topology, mesh=beside, report=report)
    async with system:
        yield system


async def tell(system: Running, report: Report) -> list[Outcome]:
    """The story of what is running."""
    if isinstance(system, System):
        return await confidential.tell(system, report)
    if system.mesh is None:
        return await plain.tell(system, report)
    return await mesh.tell(system, system.mesh, report)


def here(wanted: Stage | None) -> tuple[list[Stage], str]:
    """The stages to put on, all if none is wanted, and why one was left out ("" if none was).

    Raises:
        EnvoyMissing: there is no Envoy, and exactly the stage `mesh` is wanted, or this is CI.
    """
    if wanted is not None and wanted is not Stage.MESH:
        return [wanted], ""
    if has_envoy(required=wanted is Stage.MESH):
        return [wanted] if wanted else list(Stage), ""
    reason = "stage mesh is left out, and confidential has no sidecars: there is no Envoy on this machine"
    return [Stage.PLAIN, Stage.CONFIDENTIAL], reason
