"""What a data owner does before trusting the deployment with anything.

Two questions: does the coordinator run the code it should (its quote, fresh, under the pinned root, of the expected
measurement), and is the manifest in force the very one that was agreed on (fingerprint and signature)? From then on the
root certificate stands for the whole deployment.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.errors import CoordinatorRefused, CoordinatorUntrusted, ManifestError
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, VerifiedCoordinator, verify_coordinator
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection

_ACCEPTING_MANIFEST = 2


@dataclass(frozen=True, slots=True)
class VerifiedDeployment:
    """A deployment that a data owner may rely on."""

    claims: Claims
    fingerprint: str


class DataOwner:
    """Talks to the coordinator's client API at `address`, trusting it by `trust` only."""

    def __init__(self, address: str, trust: CoordinatorTrust) -> None:
        self._address = address
        self._trust = trust

    async def set_manifest(self, manifest: bytes) -> dict[str, bytes]:
        """Verify the coordinator, then give it the manifest; nothing happens if it has one already.

        Returns:
            Encrypted recovery secrets by the name of the key; the coordinator says them once.

        Raises:
            CoordinatorUntrusted: the coordinator is not what it should be.
            CoordinatorUnavailable: it does not answer.
            ManifestError: it refuses the manifest.
        """
        api, _ = await self._verified()
        if (await asyncio.to_thread(api.status)).code != _ACCEPTING_MANIFEST:
            return {}
        try:
            return await asyncio.to_thread(api.set_manifest, manifest)
        except CoordinatorRefused as refused:
            raise ManifestError(f"the coordinator refuses the manifest: {refused.message}") from refused

    async def verify(self, manifest: bytes) -> VerifiedDeployment:
        """Check coordinator and manifest.

        Raises:
            CoordinatorUntrusted: the coordinator, or the manifest in force, is not the expected one.
            CoordinatorUnavailable: it does not answer.
            CoordinatorRefused: it has no manifest.
        """
        api, verified = await self._verified()
        in_force = await asyncio.to_thread(api.manifest)
        expected = hashlib.sha256(manifest).hexdigest()
        if in_force.fingerprint != expected:
            raise CoordinatorUntrusted(
                "another manifest is in force",
                got=in_force.fingerprint,
                expected=expected,
                hint="bring it up to date with `cbs manifest update`, or begin anew: remove the coordinator's state",
            )
        if verified.claims is None:
            raise CoordinatorUntrusted("the coordinator was not attested", expected="trust by its package")
        return VerifiedDeployment(verified.claims, expected)

    async def _verified(self) -> tuple[CoordinatorApi, VerifiedCoordinator]:
        verified = await verify_coordinator(self._address, self._trust)
        return CoordinatorApi(Connection(self._address, verified.root)), verified
