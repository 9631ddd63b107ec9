"""The manifest: set once, by whoever comes first; data owners compare its fingerprint."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from aiohttp import web

from confidential_bookstore.errors import NotFound
from coordinator.client_api.authentication import Identify
from coordinator.client_api.envelope import success
from coordinator.client_api.go_json import read_object
from coordinator.client_api.routes import Incoming
from coordinator.deployment.live import LiveDeployment
from coordinator.monitoring.events import Clock
from coordinator.transport.json_text import go_map

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ManifestEndpoints:
    """Manifest get and set.

    Attributes:
        tolerant: unknown keys in a manifest are warnings.
    """

    live: LiveDeployment
    clock: Clock
    tolerant: bool

    async def get(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /api/v2/manifest: the bytes as they were uploaded, and the root key's signature over them."""
        deployment = self.live.current
        if deployment.manifest is None:
            raise NotFound("requested value not set")
        return success(
            {
                "manifestSignatureRootECDSA": deployment.manifest_signature,
                "manifestFingerprint": deployment.manifest.fingerprint,
                "manifest": deployment.manifest.raw,
            }
        )

    async def get_v1(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /manifest, which succeeds without a manifest too."""
        deployment = self.live.current
        manifest = deployment.manifest
        return success(
            {
                "ManifestSignatureRootECDSA": deployment.manifest_signature if manifest else None,
                "ManifestSignature": manifest.fingerprint if manifest else "",
                "Manifest": manifest.raw if manifest else None,
            }
        )

    async def set(self, _who: Identify[None], raw: bytes) -> web.Response:
        """POST /api/v2/manifest."""
        return success({"RecoverySecrets": go_map(await self._set(raw))})

    async def set_v1(self, _who: Identify[None], raw: bytes) -> web.Response:
        """POST /manifest."""
        recovery_secrets = await self._set(raw)
        return success({"RecoverySecrets": go_map(recovery_secrets)} if recovery_secrets else None)

    async def _set(self, raw: bytes) -> dict[str, bytes]:
        """Of several at the same time, one wins; it is sealed before it is answered."""
        recovery_secrets = await self.live.change_slowly(
            lambda deployment: deployment.accept_manifest(raw, self.clock(), tolerant=self.tolerant)
        )
        if (manifest := self.live.current.manifest) is not None:
            log.info("manifest set", fingerprint=manifest.fingerprint, warnings=manifest.warnings)
        return recovery_secrets


def read_manifest(incoming: Incoming) -> bytes:
    """`{"manifest": base64}`."""
    return read_object(incoming.body).bytes("manifest")


def read_raw_manifest(incoming: Incoming) -> bytes:
    """The body is the manifest."""
    return incoming.body
