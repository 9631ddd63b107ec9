"""The demo's data owner, who stands on the same room as the commands."""

from __future__ import annotations

import asyncio

import pytest
from deployments import COORDINATOR, Deployment

from confidential_bookstore.attestation.collateral import DirectoryCollateral
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import CoordinatorUntrusted, ManifestError
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust
from demo.owner import DataOwner


def owner_of(deployment: Deployment, code: bytes = COORDINATOR.mr_enclave) -> DataOwner:
    collateral = DirectoryCollateral(deployment.folder / "collateral")
    verifier = Verifier(TrustRoot.from_pem(deployment.machine.root_pem), collateral)
    return DataOwner(f"127.0.0.1:{deployment.port}", CoordinatorTrust(verifier, Package(unique_id=code.hex())))


def test_sets_a_manifest_once_and_verifies(deployment):
    raw = deployment.manifest()
    with deployment.running():
        owner = owner_of(deployment)
        with pytest.raises(ManifestError, match="Packages"):
            asyncio.run(owner.set_manifest(b"{}"))
        asyncio.run(owner.set_manifest(raw))
        asyncio.run(owner.set_manifest(raw))
        verified = asyncio.run(owner.verify(raw))
        assert verified.claims.unique_id == COORDINATOR.mr_enclave.hex()
        with pytest.raises(CoordinatorUntrusted, match="another manifest"):
            asyncio.run(owner.verify(raw + b" "))
        with pytest.raises(CoordinatorUntrusted, match="UniqueID"):
            asyncio.run(owner_of(deployment, bytes(32)).set_manifest(raw))
