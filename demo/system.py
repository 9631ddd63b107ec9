"""The whole bookstore in enclaves on this machine: started in order, supervised, and stopped without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Self, TypeVar

from confidential_bookstore.attestation.collateral import CachedCollateral, PccsCollateral
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import CoordinatorUnavailable, EnclaveError
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust
from demo.addresses import require_free
from demo.launching import in_enclave
from demo.manifest import manifest_of
from demo.mesh import Mesh
from demo.observation import Observation, observe
from demo.owner import DataOwner, VerifiedDeployment
from demo.supervisor import Program, Supervisor
from demo.topology import ENCLAVES, PCCS_PORT, SERVICES, Topology, image_of
from demo.workspace import PROJECT_ROOT, Workspace

_START_SECONDS = 30.0
_RETRY_SECONDS = 0.1

T = TypeVar("T")


class System:
    """Use it as an async context manager: inside, everything runs.

    Args:
        mesh: the sidecars beside the enclaves, if the topology has any.

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
        mesh: Mesh | None = None,
        manifest: bytes | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.workspace = workspace
        self.topology = topology
        self.platform = platform
        self.enclaves = enclaves
        self.supervisor = Supervisor()
        self.mesh = mesh
        self.manifest = manifest or manifest_of(
            PROJECT_ROOT / "deploy" / "manifests",
            {name: sigstruct.parse(enclaves[name].signature) for name in ENCLAVES},
            workspace.owner,
        )
        self.deployment: VerifiedDeployment | None = None
        self._report = report
        self._cleanup = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        require_free(self.topology.listening())
        async with contextlib.AsyncExitStack() as cleanup:
            self._report("starting the platform's PCCS")
            pccs = await start_pccs(self.platform, self.topology.host("coordinator"), PCCS_PORT)
            cleanup.push_async_callback(pccs.close)
            await cleanup.enter_async_context(self.supervisor)
            if self.mesh is not None:
                self._report("starting the mesh, a sidecar for each service")
                await self.mesh.start(self.supervisor, self.workspace.logs)
            self._report("starting the coordinator in its enclave")
            await self._start("coordinator")
            self._report("starting the marbles and the thief in theirs")
            await asyncio.gather(*(self._start(name) for name in SERVICES))
            self._report("verifying the coordinator and its manifest")
            files = self.workspace.owner
            if await self._as_owner(lambda owner: owner.recover(files.recovery_secret, files.recovery_private_key)):
                self._report("the coordinator could not unseal its state: recovered with the owner's recovery key")
            if secrets := await self._as_owner(lambda owner: owner.set_manifest(self.manifest)):
                files.save_recovery_secrets(secrets)
            self._save_context()
            if self.mesh is not None:
                await self.mesh.ready()
            self.deployment = await self._as_owner(lambda owner: owner.verify(self.manifest))
            self._cleanup = cleanup.pop_all()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._cleanup.aclose()

    async def observe(self) -> Observation:
        """One look at everything."""
        return await observe(self.topology, self.mesh)

    def _save_context(self) -> None:
        """So that `cbs` can ask the owner's questions while everything runs."""
        self.workspace.owner.save_context(
            policy={"UniqueID": sigstruct.parse(self.enclaves["coordinator"].signature).mr_enclave.hex()},
            trust_root=self.platform.root_pem,
            coordinator=self.topology.client_address,
            metrics=self.topology.events_url.removeprefix("http://"),
            pccs=self.topology.pccs_url,
            mesh=str(self.mesh.folder) if self.mesh else "",
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
        enclave = self.enclaves[image_of(name)]
        (self.topology.state / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        launch = in_enclave(enclave, self.platform, self.topology.environment(name))
        try:
            await self.supervisor.start(Program(name, launch, self.workspace.logs / f"{name}.log"))
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
