"""The whole system as processes. Enclaves are built once; each test has its own network, state and logs.

There are no sidecars unless a test asks for them: what marbles do does not depend on them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from auditor import with_auditor

from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave
from demo.mesh import Mesh
from demo.stages import Stage
from demo.system import System
from demo.topology import Topology
from demo.workspace import Workspace

_networks = itertools.count(101)


@dataclass(frozen=True)
class Built:
    workspace: Workspace
    platform: SimulatedPlatform
    enclaves: Mapping[str, SignedEnclave]


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Built:
    workspace = Workspace(tmp_path_factory.mktemp("run"))
    platform = workspace.platform()
    return Built(workspace, platform, workspace.enclaves(platform, print))


Start = Callable[..., System]


@pytest.fixture
def network() -> str:
    return f"127.0.{next(_networks)}"


@pytest.fixture
def system(built: Built, tmp_path: Path, network: str) -> Start:
    """A function that makes a system on this test's network and state; keyword arguments are settings by service."""

    def make(
        *,
        topology: type[Topology] = Topology,
        sidecars: bool = False,
        auditor: bool = True,
        **settings: Mapping[str, str],
    ) -> System:
        workspace, table = Workspace(tmp_path), topology(network, tmp_path / "state", settings, sidecars=sidecars)
        made = System(
            workspace,
            table,
            built.platform,
            built.enclaves,
            mesh=Mesh(workspace.mesh, table, Stage.CONFIDENTIAL) if sidecars else None,
        )
        if auditor:
            made.manifest = with_auditor(made.manifest)
        return made

    return make


@pytest.fixture
def run_dir(built, tmp_path) -> Path:
    """A folder in which everything is built already."""
    for name in ("platform", "enclaves", "signing-key.pem"):
        (tmp_path / name).symlink_to(built.workspace.root / name)
    return tmp_path
