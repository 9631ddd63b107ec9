"""The folder that holds what the demo makes once: signing key, simulated platform, signed images.

Images are built again only when something that goes into them has changed. A stale or edited image cannot pass for a
fresh one: the launcher measures it at every start.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import IMAGE_SUFFIX, SignedEnclave, sign_enclave
from demo.owner_files import OwnerFiles
from demo.stages import Stage
from demo.topology import ENCLAVES

PROJECT_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = ("confidential_bookstore", "coordinator", "services")


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything that the demo keeps below one folder, usually `.run`."""

    root: Path

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.root / "logs"

    @property
    def state(self) -> Path:
        """One folder per service: sealed state, database, journal."""
        return self.root / "state"

    @property
    def owner(self) -> OwnerFiles:
        """Keys of the data owner."""
        return OwnerFiles(self.root / "owner")

    @property
    def mesh(self) -> Path:
        """The host's mesh: policy, layout, and what it writes down."""
        return self.root / "mesh"

    def ordinary(self, stage: Stage) -> Workspace:
        """Of a stage without enclaves: logs and state only."""
        return Workspace(self.root / "ordinary" / stage.value)

    def platform(self) -> SimulatedPlatform:
        """This installation's simulated platform, made on first use."""
        folder = self.root / "platform"
        if not folder.exists():
            SimulatedPlatform.create().save(folder)
        return SimulatedPlatform.load(folder)

    def signing_key(self) -> rsa.RSAPrivateKey:
        """The key of the one who builds the bookstore, made on first use."""
        path = self.root / "signing-key.pem"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            key = sigstruct.new_signing_key()
            unfinished = path.with_suffix(".tmp")
            unfinished.touch(mode=0o600)
            unfinished.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
            unfinished.replace(path)
        return sigstruct.load_signing_key(path.read_bytes())

    def enclaves(self, platform: SimulatedPlatform, report: Callable[[str], None]) -> Mapping[str, SignedEnclave]:
        """The signed enclaves by name, built where needed.

        Args:
            platform: its root is the one that the enclaves trust.
            report: told what is being done, for a progress display.
        """
        folder = self.root / "enclaves"
        stamp = folder / "inputs"
        inputs = _inputs_digest(platform)
        if not stamp.exists() or stamp.read_text() != inputs:
            stamp.unlink(missing_ok=True)
            today = dt.datetime.now(dt.UTC).date()
            for name in ENCLAVES:
                report(f"building and signing enclave {name}")
                sign_enclave(
                    enclave_config(PROJECT_ROOT, name),
                    PROJECT_ROOT,
                    self.signing_key(),
                    platform.root_pem,
                    date=today,
                ).write(folder)
            stamp.write_text(inputs)
        return {name: SignedEnclave.read(folder / f"{name}{IMAGE_SUFFIX}") for name in ENCLAVES}


def enclave_config(project_root: Path, name: str) -> Path:
    """Where a program's `enclave.json` lies."""
    room = Path("coordinator") if name == "coordinator" else Path("services", name)
    return project_root / room / "enclave.json"


def _inputs_digest(platform: SimulatedPlatform) -> str:
    """Changes whenever an image built now would be another one, or a new interpreter would measure it."""
    digest = hashlib.sha256(f"{sys.version}\0{sys.executable}\0".encode() + platform.root_pem)
    for path in _inputs():
        digest.update(str(path).encode() + b"\0" + path.read_bytes())
    for line in sorted(_installed()):
        digest.update(line.encode())
    return digest.hexdigest()


def _inputs() -> Iterator[Path]:
    yield PROJECT_ROOT / "pyproject.toml"
    for folder in _SOURCES:
        for path in sorted((PROJECT_ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _installed() -> Iterator[str]:
    for distribution in importlib.metadata.distributions():
        yield f"{distribution.name}=={distribution.version} {distribution.read_text('RECORD')}"
