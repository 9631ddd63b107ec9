"""The host's mesh in the demo: its folder of policy, the control plane on it, and what that writes down.

The folder begins anew at every start, with the policy of `deploy/manifests/smi`. While it runs, anybody may change the
files; the story does.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confidential_bookstore.errors import EnvoyMissing, MeshError
from demo.launching import as_it_is
from demo.stages import Stage
from demo.supervisor import Program, Supervisor
from demo.topology import Topology
from demo.workspace import PROJECT_ROOT
from mesh.envoy_process import envoy_path

NAME = "mesh"  # of its process, and its log
POLICY = PROJECT_ROOT / "deploy" / "manifests" / "smi"
VARIANTS = PROJECT_ROOT / "deploy" / "manifests" / "smi-variants"
_PERMISSIVE = "permissive.yaml"
_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.05


def has_envoy(*, required: bool = False) -> bool:
    """Whether sidecars can be started on this machine.

    Raises:
        EnvoyMissing: they cannot, and they are required, or this is CI, where nothing is left out.
    """
    try:
        envoy_path()
    except EnvoyMissing:
        if required or os.environ.get("CI"):
            raise
        return False
    return True


class Mesh:
    """The sidecars of one stage.

    Args:
        folder: for policy, layout and state; policy and state begin anew.
        topology: says where the sidecars listen.
        stage: `confidential` means that what the services say is sealed, and that there is a coordinator.
        permissive: whether it begins in permissive mode.
    """

    def __init__(self, folder: Path, topology: Topology, stage: Stage, *, permissive: bool = False) -> None:
        self.folder = folder
        self._topology = topology
        self._stage = stage
        self._permissive = permissive

    @property
    def policy(self) -> Path:
        """The folder of SMI documents."""
        return self.folder / "policy"

    async def start(self, supervisor: Supervisor, logs: Path) -> None:
        """Lay out the folder, and start the mesh's control plane; the sidecars come up in the background."""
        await asyncio.to_thread(self._lay_out)
        command = [sys.executable, "-m", "demo.sidecars", str(self.folder), self._stage.value]
        await supervisor.start(Program(NAME, as_it_is(command, {}), logs / f"{NAME}.log"))

    def _lay_out(self) -> None:
        shutil.rmtree(self.policy, ignore_errors=True)
        (self.folder / "state.json").unlink(missing_ok=True)
        shutil.copytree(POLICY, self.policy)
        if self._permissive:
            shutil.copy(VARIANTS / _PERMISSIVE, self.policy)
        layout = self._topology.layout(coordinator=self._stage is Stage.CONFIDENTIAL)
        (self.folder / "layout.json").write_text(json.dumps(layout, indent=2))

    async def ready(self) -> None:
        """Returns when every sidecar takes calls.

        Raises:
            MeshError: the policy is refused, or it takes too long.
        """
        await self._until("the sidecars are ready", lambda state: bool(state.get("sidecars")) and _ready(state))

    async def set_permissive(self, *, on: bool) -> None:
        """Change permissive mode as whoever owns the host may; returns when that is in force.

        Raises:
            MeshError: as for `ready`.
        """
        if on:
            self._put(VARIANTS / _PERMISSIVE, _PERMISSIVE)
        else:
            (self.policy / _PERMISSIVE).unlink(missing_ok=True)
        await self._until("the policy is in force", lambda state: state.get("permissive") is on)

    async def replace(self, name: str, variant: str) -> None:
        """Put a variant in the place of the file `name`; returns when it is in force.

        Raises:
            MeshError: as for `ready`.
        """
        before = self.state().get("version")
        self._put(VARIANTS / variant, name)
        await self._until("the policy is in force", lambda state: state.get("version") != before)

    def _put(self, source: Path, name: str) -> None:
        """In one step: the mesh watches the folder."""
        unfinished = self.policy / f".{name}.tmp"
        shutil.copy(source, unfinished)
        unfinished.replace(self.policy / name)

    def state(self) -> Mapping[str, Any]:
        """What the mesh last wrote down; nothing if there is none yet."""
        try:
            state: Mapping[str, Any] = json.loads((self.folder / "state.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return state

    async def _until(self, what: str, condition: Callable[[Mapping[str, Any]], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not condition(state := self.state()):
            if error := state.get("error"):
                raise MeshError(f"the mesh refuses its policy: {error['message']}", hint=f"see {self.policy}")
            if time.monotonic() > deadline:
                raise MeshError("the mesh takes too long", expected=what, hint=f"see {NAME}.log")
            await asyncio.sleep(_LOOK_SECONDS)


def _ready(state: Mapping[str, Any]) -> bool:
    return state.get("version") is not None and all(sidecar.get("ready") for sidecar in state["sidecars"].values())
