"""A recovery under way: the sealed bytes that wait for their key, and what has been uploaded of it so far."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric import rsa

from confidential_bookstore.errors import ManifestError, RecoveryError, StateError
from coordinator.deployment.deployment import recovery_public_keys
from coordinator.deployment.state import MANIFEST
from coordinator.manifest import load_manifest
from coordinator.recovery.ephemeral import EphemeralKey
from coordinator.recovery.session import Progress, Recovered, RecoverySession
from coordinator.sealing.format import open_sealed_data, recovery_data_of


class Recovering:
    """One recovery. Uploads must not overlap.

    Args:
        sealed_data: the whole content of the file.
    """

    def __init__(self, sealed_data: bytes) -> None:
        self._sealed_data = sealed_data
        self._session = self._new_session()
        self._key: asyncio.Task[EphemeralKey] | None = None

    @staticmethod
    def require(recovering: Recovering | None) -> Recovering:
        """The recovery that is under way.

        Raises:
            StateError: none is.
        """
        if recovering is None:
            raise StateError("server is not in expected state")
        return recovering

    def _new_session(self) -> RecoverySession:
        return RecoverySession(
            recovery_data_of(self._sealed_data), lambda key: open_sealed_data(self._sealed_data, key)
        )

    def renew(self, sealed_data: bytes) -> None:
        """Goes on with what other coordinators have sealed meanwhile; from the start if other secrets recover it."""
        same_secrets = recovery_data_of(sealed_data) == recovery_data_of(self._sealed_data)
        self._sealed_data = sealed_data
        if not same_secrets:
            self._session = self._new_session()

    async def key(self) -> EphemeralKey:
        """The key that secrets can be encrypted for. RSA-4096 takes a second, so it is made once, in a thread."""
        if self._key is None:
            self._key = asyncio.get_running_loop().create_task(asyncio.to_thread(EphemeralKey.generate))
        return await asyncio.shield(self._key)

    def upload(self, secret: bytes, signature: bytes) -> Progress | Recovered:
        """What is still missing, or what was recovered.

        Raises:
            RecoveryError: the secret is not accepted.
        """
        return self._session.upload(secret, signature, _holders)


def _holders(records: Mapping[str, bytes]) -> tuple[Mapping[str, rsa.RSAPublicKey], int]:
    """Whose signatures count: the key holders of the sealed manifest, which is what was just decrypted."""
    if MANIFEST not in records:
        return {}, 0
    try:
        # It was accepted once; a stricter reading must not stand in the way of getting it back.
        manifest = load_manifest(records[MANIFEST], tolerant=True)
    except ManifestError as error:
        raise RecoveryError("the sealed manifest is not accepted by this version", got=str(error)) from error
    return recovery_public_keys(manifest), manifest.recovery_threshold
