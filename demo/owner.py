"""What a data owner does before trusting the deployment with anything.

Two questions: does the coordinator run the code it should (its quote, fresh, under the pinned root, of the expected
measurement), and is the manifest in force the very one that was agreed on (fingerprint and signature)? From then on the
root certificate stands for the whole deployment.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.errors import CoordinatorRefused, CoordinatorUntrusted, ManifestError, RecoveryError
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, VerifiedCoordinator, verify_coordinator
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.recovery import sign
from confidential_bookstore.secret import Secret

_RECOVERY, _ACCEPTING_MANIFEST = 1, 2
_UPDATED = "Complete Manifest updated"


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

    async def recover(self, secret: Callable[[], Secret[bytes]], key: Callable[[], rsa.RSAPrivateKey]) -> bool:
        """Recover the coordinator's state if its machine cannot unseal it any more; whether there was need to.

        Args:
            secret: in clear; called if it is needed.
            key: signs it.

        Raises:
            CoordinatorUntrusted: the coordinator is not what it should be.
            CoordinatorUnavailable: it does not answer.
            CoordinatorRefused: the secret is not the right one.
        """
        api, _ = await self._verified()
        if (await asyncio.to_thread(api.status)).code != _RECOVERY:
            return False
        plain = secret()
        remaining, message = await asyncio.to_thread(api.recover, plain.reveal(), sign(plain, key()))
        if remaining:
            raise RecoveryError(f"the coordinator is not recovered: {message}")
        return True

    async def verify(self, manifest: bytes) -> VerifiedDeployment:
        """Check the coordinator, and that its manifest is this one or came from it by updates of its users.

        Raises:
            CoordinatorUntrusted: the coordinator, or the manifest in force, is not the expected one.
            CoordinatorUnavailable: it does not answer.
            CoordinatorRefused: it has no manifest.
        """
        api, verified = await self._verified()
        in_force = await asyncio.to_thread(api.manifest)
        expected = hashlib.sha256(manifest).hexdigest()
        if in_force.fingerprint != expected and not _updated_to(
            in_force.fingerprint, await asyncio.to_thread(api.update_log)
        ):
            raise CoordinatorUntrusted(
                "another manifest is in force",
                got=in_force.fingerprint,
                expected=expected,
                hint="the state is of another version of this demo; to begin anew, remove the folder state",
            )
        if verified.claims is None:
            raise CoordinatorUntrusted("the coordinator was not attested", expected="trust by its package")
        return VerifiedDeployment(verified.claims, in_force.fingerprint)

    async def _verified(self) -> tuple[CoordinatorApi, VerifiedCoordinator]:
        verified = await verify_coordinator(self._address, self._trust)
        return CoordinatorApi(Connection(self._address, verified.root)), verified


def _updated_to(fingerprint: str, update_log: Iterable[str]) -> bool:
    """Whether users of the manifest have agreed on it: the attested coordinator says so in its log."""
    entries = map(json.loads, update_log)
    return any(entry["update"] == _UPDATED and entry["manifestFingerprint"] == fingerprint for entry in entries)
