"""A process that changes a sealed state and kills itself before, or in the middle of, its N-th operation on the disk.

python killed_writer.py DIRECTORY PLATFORM N STEP      STEP: begin, manifest, update
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from api_users import manifest_of_users
from coordinators import COORDINATOR

from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from coordinator.deployment import updates
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import load_or_begin, seal_mode
from coordinator.pki.authority import Authority
from coordinator.sealing.directory import DirectoryStore
from coordinator.sealing.files import DiskFiles
from coordinator.sealing.keys import PlatformKeys
from coordinator.sealing.sealed_state import SealedState

UPDATE = b'{"Packages":{"bookstore":{"SecurityVersion":3}}}'


class DeadlyFiles(DiskFiles):
    """Kills this process at one of its operations; a write is cut in half first."""

    left = -1  # operations until then

    def write(self, path: Path, content: bytes) -> None:
        if self._due():
            path.write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(path, content)

    def rename(self, old: Path, new: Path) -> None:
        self._live_on()
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._live_on()
        super().remove(path)

    def sync(self, directory: Path) -> None:
        self._live_on()
        super().sync(directory)

    def _live_on(self) -> None:
        if self._due():
            os.kill(os.getpid(), signal.SIGKILL)

    def _due(self) -> bool:
        self.left -= 1
        return self.left == -1


def main(directory: Path, platform: Path, operation: int, step: str) -> None:
    now = dt.datetime.now(dt.UTC)
    machine = InProcessPlatform(SimulatedPlatform.load(platform), COORDINATOR)
    files = DeadlyFiles()
    sealed = SealedState(DirectoryStore(directory, files=files), PlatformKeys.of(machine), machine.raise_counter)
    if step == "begin":
        files.left = operation
    deployment, _ = load_or_begin(sealed, lambda: Authority.create(dns_names=["localhost"], now=now))
    if step == "begin":
        return
    raw = manifest_of_users()
    changed: Deployment
    if step == "manifest":
        changed, _ = deployment.accept_manifest(raw, now)
    else:
        changed, _ = updates.update(deployment, UPDATE, deployment.require_manifest().users["alice"], now)
    files.left = operation
    sealed.store(changed.state.records, changed.data_key, seal_mode(changed))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
