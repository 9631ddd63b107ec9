"""Recovery: key holders upload the secrets that open a sealed state which this machine cannot unseal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from confidential_bookstore.secret import Secret
from coordinator.client_api.authentication import Identify
from coordinator.client_api.envelope import error, success
from coordinator.client_api.go_json import read_object
from coordinator.client_api.routes import Incoming
from coordinator.deployment.live import LiveDeployment
from coordinator.recovery.session import SECRET_SIZES, Progress

LARGEST_UPLOAD: Final = 20480  # bytes, as in MarbleRun

DISABLED = (
    "Recovering the Coordinator using the /recover API endpoint has been disabled. "
    "Use the /api/v2/recover endpoint instead."
)


@dataclass(frozen=True, slots=True)
class Upload:
    """A recovery secret, plain or encrypted for the ephemeral key, and a signature over the plain one."""

    secret: Secret[bytes]
    signature: bytes


@dataclass(frozen=True, slots=True)
class RecoveryEndpoints:
    """The ephemeral key, and uploads."""

    live: LiveDeployment

    async def public_key(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /api/v2/recover/public-key."""
        key = await self.live.recovery_key()
        return success({"algorithm": "RSA", "ephemeralPublicKey": key.public_der})

    async def recover(self, _who: Identify[None], upload: Upload) -> web.Response:
        """POST /api/v2/recover."""
        secret = upload.secret.reveal()
        if len(secret) not in SECRET_SIZES:
            key = await self.live.recovery_key()
            secret = await asyncio.to_thread(key.decrypt, secret)
        progress = await self.live.recover(secret, upload.signature)
        return success({"remaining": progress.remaining, "message": _message(progress)})

    async def recover_v1(self, _who: Identify[None], _nothing: None) -> web.Response:
        """POST /recover, which took secrets without a signature."""
        return error(410, DISABLED)


def _message(progress: Progress) -> str:
    if not progress.remaining:
        return "Recovery successful."
    if not progress.recognised:
        return "Secret does not open the state. If it is one of several, upload the next one; else it is a wrong one."
    return f"Secret was processed successfully. Upload the next secret. Remaining secrets: {progress.remaining}"


def read_upload(incoming: Incoming) -> Upload:
    """`{"recoverySecret": base64, "recoverySecretSignature": base64}`."""
    fields = read_object(incoming.body)
    return Upload(Secret(fields.bytes("recoverySecret")), fields.bytes("recoverySecretSignature"))
