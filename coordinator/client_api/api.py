"""The client API over HTTPS: state, evidence and manifest, as MarbleRun serves them.

Nobody is authorised here: what is read is public, and a manifest can be set once, by whoever comes first; data owners
compare its fingerprint. An unknown path or method is 405, which MarbleRun's clients take for "not supported".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final

import structlog
from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.errors import BookstoreError, InvalidRequest
from coordinator.client_api.envelope import error, fail, read_bytes_field, success
from coordinator.client_api.own_quote import OwnQuote
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import LiveDeployment
from coordinator.deployment.state import Phase
from coordinator.monitoring.events import Clock, utc_now
from coordinator.transport.http_server import Endpoint

log = structlog.get_logger()

LARGEST_BODY: Final = 2 << 20  # bytes; a manifest has at most 1 MiB, before base64

STATUS_MESSAGES: Final[Mapping[Phase, str]] = {
    Phase.ACCEPTING_MANIFEST: "Coordinator is ready to accept a manifest.",
    Phase.ACCEPTING_MARBLES: "Coordinator is running correctly and ready to accept marbles.",
}

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")


class ClientApi:
    """The endpoints, by method and path."""

    def __init__(self, live: LiveDeployment, quote: OwnQuote, clock: Clock = utc_now) -> None:
        self._live = live
        self._quote = quote
        self._clock = clock
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("GET", "/status"): self._status_v1,
            ("GET", "/api/v2/status"): self._status,
            ("GET", "/api/v2/quote"): self._get_quote,
            ("GET", "/api/v2/manifest"): self._get_manifest,
            ("POST", "/api/v2/manifest"): self._set_manifest,
        }

    async def answer(self, request: web.Request) -> web.Response:
        """Any request at all."""
        endpoint = self._endpoints.get((request.method, request.path))
        if endpoint is None:
            return error(405)
        try:
            return await endpoint(request)
        except web.HTTPRequestEntityTooLarge:
            return fail(413, f"request body is larger than {LARGEST_BODY} bytes")
        except InvalidRequest as problem:
            return fail(400, str(problem))
        except BookstoreError as problem:
            return error(500, str(problem))

    async def _status(self, _request: web.Request) -> web.Response:
        code, message = self._state()
        return success({"code": code, "message": message})

    async def _status_v1(self, _request: web.Request) -> web.Response:
        code, message = self._state()
        return success({"StatusCode": code, "StatusMessage": message})

    def _state(self) -> tuple[int, str]:
        phase = self._live.current.state.phase
        return int(phase), STATUS_MESSAGES[phase]

    async def _get_quote(self, request: web.Request) -> web.Response:
        """Without a nonce the one quote that everybody gets, with one a fresh quote."""
        nonce = _nonce(request.query.get("nonce", ""))
        quote = await self._quote.fresh(nonce) if nonce else self._quote.cached
        authority = self._live.current.authority
        chain = authority.intermediate.public_bytes(Encoding.PEM) + authority.root.public_bytes(Encoding.PEM)
        return success({"cert": chain.decode(), "quote": quote})

    async def _get_manifest(self, _request: web.Request) -> web.Response:
        deployment = self._live.current
        if deployment.manifest is None:
            return error(500, "requested value not set")
        return success(
            {
                "manifestSignatureRootECDSA": deployment.manifest_signature,
                "manifestFingerprint": deployment.manifest.fingerprint,
                "manifest": deployment.manifest.raw,
            }
        )

    async def _set_manifest(self, request: web.Request) -> web.Response:
        """Of several at the same time, one wins; it is sealed before it is answered."""
        raw = read_bytes_field(await request.read(), "manifest")

        def accept(deployment: Deployment) -> Deployment:
            return deployment.accept_manifest(raw, self._clock())

        manifest = (await self._live.change(accept)).manifest
        if manifest is not None:
            log.info("manifest set", fingerprint=manifest.fingerprint, warnings=manifest.warnings)
        return success({})


def _nonce(text: str) -> bytes:
    """Base64url with standard padding."""
    try:
        if _BASE64URL.fullmatch(text):
            return base64.urlsafe_b64decode(text)
    except binascii.Error as problem:
        raise InvalidRequest(f"invalid query: bad nonce format: {problem}") from None
    raise InvalidRequest("invalid query: bad nonce format: not base64url")
