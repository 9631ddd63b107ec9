"""A simulated machine, identities of code on it, and coordinators."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from coordinators import BOOKSTORE, COORDINATOR, Client, client_of, manifest, set_manifest
from independent_marble import IndependentMarble

from confidential_bookstore.attestation.collateral import CachedCollateral
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from coordinator.app import Coordinator
from coordinator.settings import CoordinatorSettings


@dataclass(frozen=True)
class MachineCollateral:
    """Collateral straight from the simulated machine."""

    machine: SimulatedPlatform

    async def collateral_for(self, quote):
        return self.machine.collateral(quote.tee)


@pytest.fixture(scope="session")
def machine() -> SimulatedPlatform:
    return SimulatedPlatform.create()


@pytest.fixture(scope="session")
def vectors() -> Path:
    """Real quotes."""
    return Path(__file__).parents[1] / "vectors"


@pytest.fixture
def verifier(machine) -> Verifier:
    return Verifier(TrustRoot.from_pem(machine.root_pem), CachedCollateral(MachineCollateral(machine)))


@pytest.fixture
def settings(tmp_path: Path) -> CoordinatorSettings:
    return CoordinatorSettings(
        seal_directory=tmp_path / "sealed",
        mesh_address=("127.0.0.1", 0),
        client_address=("127.0.0.1", 0),
        status_address=("127.0.0.1", 0),
    )


Start = Callable[..., contextlib.AbstractAsyncContextManager[Coordinator]]


@pytest.fixture
def start(machine, verifier, settings) -> Start:
    """A coordinator; arguments replace those of its constructor, `settings_` names fields of its settings."""

    def starting(settings_: dict[str, Any] | None = None, **changes: Any) -> Coordinator:
        arguments = {"platform": InProcessPlatform(machine, COORDINATOR), "verifier": verifier} | changes
        return Coordinator(dataclasses.replace(settings, **(settings_ or {})), **arguments)

    return starting


@pytest.fixture
def bookstore(machine) -> Callable[..., IndependentMarble]:
    """A new genuine marble."""

    def made(marble_type: str = "bookstore", identity: EnclaveIdentity = BOOKSTORE, **rest: Any) -> IndependentMarble:
        return IndependentMarble(marble_type, lambda report_data: machine.quote_sgx(identity, report_data), **rest)

    return made


@pytest.fixture
async def coordinator(start) -> AsyncIterator[Coordinator]:
    """One that accepts marbles of `manifest()`."""
    async with start() as running:
        await set_manifest(running, manifest())
        yield running


@pytest.fixture
async def client(coordinator) -> AsyncIterator[Client]:
    async with client_of(coordinator) as opened:
        yield opened
