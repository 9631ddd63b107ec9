"""The whole bookstore as processes on this machine: started in order, supervised, and stopped without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Self, TypeVar

from confidential_bookstore.attestation.collateral import CachedCollateral, PccsCollateral
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import ConfigurationError, CoordinatorUnavailable, EnclaveError
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust
from demo.manifest import build_manifest
from demo.owner import DataOwner, VerifiedDeployment
from demo.supervisor import Program, Supervisor
from demo.topology import ENCLAVES, MARBLES, PCCS_PORT, Topology
from demo.workspace import PROJECT_ROOT, Workspace

_START_SECONDS = 30.0
_RETRY_SECONDS = 0.1

T = TypeVar("T")


class System:
    """Use it as an async context manager: inside, everything runs.

    Attributes:
        manifest: the bytes that were set.
        deployment: what the data owner found.
    """

    def __init__(
        self,
        workspace: Workspace,
        topology: Topology,
        platform: SimulatedPlatform,
        enclaves: Mapping[str, SignedEnclave],
        *,
        manifest: bytes | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.workspace = workspace
        self.topology = topology
        self.platform = platform
        self.enclaves = enclaves
        self.supervisor = Supervisor(platform)
        self.manifest = manifest or build_manifest(
            PROJECT_ROOT / "deploy" / "manifests",
            {name: sigstruct.parse(enclaves[name].signature) for name in MARBLES},
            workspace.owner,
        )
        self.deployment: VerifiedDeployment | None = None
        self._report = report
        self._cleanup = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        _require_free(self.topology.listening())
        async with contextlib.AsyncExitStack() as cleanup:
            self._report("starting the platform's PCCS")
            pccs = await start_pccs(self.platform, self.topology.host("coordinator"), PCCS_PORT)
            cleanup.push_async_callback(pccs.close)
            await cleanup.enter_async_context(self.supervisor)
            self._report("starting the coordinator in its enclave")
            await self._start("coordinator")
            self._report("starting the marbles and the thief in theirs")
            await asyncio.gather(*(self._start(name) for name in ENCLAVES if name != "coordinator"))
            self._report("verifying the coordinator and its manifest")
            files = self.workspace.owner
            if await self._as_owner(lambda owner: owner.recover(files.recovery_secret, files.recovery_private_key)):
                self._report("the coordinator could not unseal its state: recovered with the owner's recovery key")
            if secrets := await self._as_owner(lambda owner: owner.set_manifest(self.manifest)):
                files.save_recovery_secrets(secrets)
            self._save_context()
            self.deployment = await self._as_owner(lambda owner: owner.verify(self.manifest))
            self._cleanup = cleanup.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._cleanup.aclose()

    def _save_context(self) -> None:
        """So that `cbs` can ask the owner's questions while everything runs."""
        self.workspace.owner.save_context(
            policy={"UniqueID": sigstruct.parse(self.enclaves["coordinator"].signature).mr_enclave.hex()},
            trust_root=self.platform.root_pem,
            coordinator=self.topology.client_address,
            metrics=self.topology.events_url.removeprefix("http://"),
            pccs=self.topology.pccs_url,
        )

    def coordinator_trust(self) -> CoordinatorTrust:
        """By what a data owner knows the coordinator: its exact measurement, under the platform's root."""
        expected = sigstruct.parse(self.enclaves["coordinator"].signature)
        collateral = CachedCollateral(PccsCollateral(self.topology.pccs_url), time.time)
        return CoordinatorTrust(
            Verifier(TrustRoot.from_pem(self.platform.root_pem), collateral),
            Package(unique_id=expected.mr_enclave.hex()),
        )

    async def _start(self, name: str) -> None:
        enclave = self.enclaves[name]
        (self.topology.state / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        environment = self.topology.environment(name)
        log = self.workspace.logs / f"{name}.log"
        try:
            await self.supervisor.start(Program(name, enclave.image, enclave.signature, environment, log))
        except EnclaveError as error:
            raise EnclaveError(
                f"enclave {name} is not launched: {error}",
                hint=f"remove {self.workspace.root / 'enclaves'} to have all enclaves built and signed again",
            ) from error

    async def _as_owner(self, action: Callable[[DataOwner], Awaitable[T]]) -> T:
        """Do something as the data owner as soon as the coordinator answers."""
        owner = DataOwner(self.topology.client_address, self.coordinator_trust())
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return await action(owner)
            except CoordinatorUnavailable:
                if words := self.supervisor.last_words("coordinator"):
                    log = self.workspace.logs / "coordinator.log"
                    raise CoordinatorUnavailable(
                        f"the coordinator does not stay up: {words}", hint=f"see {log}"
                    ) from None
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RETRY_SECONDS)


def _require_free(addresses: Iterable[tuple[str, int]]) -> None:
    """Before anything starts, rather than have one service after the other fail.

    Raises:
        ConfigurationError: something listens at one of them.
    """
    for address in addresses:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise ConfigurationError(
                    "an address of the demo cannot be used",
                    got=f"{address[0]}:{address[1]}: {error.strerror}",
                    hint="stop what listens there, perhaps another demo, or use other addresses: --network 127.0.1",
                ) from error
