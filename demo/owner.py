"""What a data owner does before trusting the deployment with anything.

Two questions: does the coordinator run the code it should (its quote, fresh, under the pinned root, of the expected
measurement), and is the manifest in force the very one that was agreed on (fingerprint and signature)? From then on the
root certificate stands for the whole deployment.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.errors import CoordinatorUnavailable, CoordinatorUntrusted, ManifestError
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, verify_coordinator

_SECONDS = 20


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

    async def set_manifest(self, manifest: bytes) -> None:
        """Verify the coordinator, then give it the manifest; nothing happens if it is in force already.

        Raises:
            CoordinatorUntrusted: the coordinator is not what it should be.
            CoordinatorUnavailable: it does not answer.
            ManifestError: it refuses the manifest.
        """
        verified = await verify_coordinator(self._address, self._trust)
        status, _ = await self._call(verified.root, "GET", "/api/v2/manifest")
        if status == 200:
            return
        body = {"manifest": base64.b64encode(manifest).decode()}
        status, answer = await self._call(verified.root, "POST", "/api/v2/manifest", body)
        if status != 200:
            raise ManifestError(f"the coordinator refuses the manifest: {answer.get('message')}")

    async def verify(self, manifest: bytes) -> VerifiedDeployment:
        """Check coordinator and manifest.

        Raises:
            CoordinatorUntrusted: the coordinator, or the manifest in force, is not the expected one.
            CoordinatorUnavailable: it does not answer.
        """
        verified = await verify_coordinator(self._address, self._trust)
        status, answer = await self._call(verified.root, "GET", "/api/v2/manifest")
        if status != 200:
            raise CoordinatorUnavailable("the coordinator has no manifest", got=f"HTTP {status}")
        expected = hashlib.sha256(manifest).hexdigest()
        if answer["data"]["manifestFingerprint"] != expected:
            raise CoordinatorUntrusted(
                "another manifest is in force", got=answer["data"]["manifestFingerprint"], expected=expected
            )
        _require_signature(verified.root, answer["data"]["manifestSignatureRootECDSA"], manifest)
        if verified.claims is None:
            raise CoordinatorUntrusted("the coordinator was not attested", expected="trust by its package")
        return VerifiedDeployment(verified.claims, expected)

    async def _call(
        self, root: x509.Certificate, method: str, path: str, body: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and decoded answer, over TLS in which nothing but the verified root is trusted."""
        context = ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())
        context.check_hostname = False  # the server's certificate is the root itself, whatever address it is reached at
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
                session.request(method, f"https://{self._address}{path}", json=body, ssl=context) as response,
            ):
                return response.status, json.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise CoordinatorUnavailable(f"no answer from the coordinator at {self._address}", got=error) from error


def _require_signature(root: x509.Certificate, signature: str, manifest: bytes) -> None:
    key = root.public_key()
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        key.verify(base64.b64decode(signature), manifest, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise CoordinatorUntrusted("the manifest is not signed by the coordinator's root") from error
