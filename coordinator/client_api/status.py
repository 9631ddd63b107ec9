"""What anybody may ask first: in which state the coordinator is, and which code stands behind its root certificate."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.errors import InvalidRequest, StateError
from coordinator.client_api.authentication import Identify
from coordinator.client_api.envelope import success
from coordinator.client_api.own_quote import OwnQuote
from coordinator.client_api.routes import Incoming
from coordinator.deployment.live import LiveDeployment
from coordinator.deployment.state import Phase
from coordinator.pki.authority import Authority

STATUS_MESSAGES: Final[Mapping[Phase, str]] = {
    Phase.RECOVERY: (
        "Coordinator is in recovery mode. Either upload a key to unseal the saved state, or set a new manifest. "
        "For more information on how to proceed, consult the documentation."
    ),
    Phase.ACCEPTING_MANIFEST: "Coordinator is ready to accept a manifest.",
    Phase.ACCEPTING_MARBLES: "Coordinator is running correctly and ready to accept marbles.",
}

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """How much the evidence here is worth, for an honest label. It is a hint: only a verified quote proves anything.

    Attributes:
        platform: that quotes for the coordinator.
        trust_root: key id (hex) of the root that marbles' quotes are verified under.
        simulated: that root is not Intel's.
        marbles_without_quote: marbles that prove nothing are admitted.
    """

    platform: str
    trust_root: str
    simulated: bool
    marbles_without_quote: bool


@dataclass(frozen=True, slots=True)
class StatusEndpoints:
    """Status and quote."""

    live: LiveDeployment
    quotes: OwnQuote
    attestation: Attestation

    async def status(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /api/v2/status; `attestation` is beyond MarbleRun."""
        code, message = self._state()
        attestation = {
            "platform": self.attestation.platform,
            "trustRoot": self.attestation.trust_root,
            "simulated": self.attestation.simulated,
            "marblesWithoutQuote": self.attestation.marbles_without_quote,
        }
        return success({"code": code, "message": message, "attestation": attestation})

    async def status_v1(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /status."""
        code, message = self._state()
        return success({"StatusCode": code, "StatusMessage": message})

    async def quote(self, _who: Identify[None], nonce: bytes) -> web.Response:
        """GET /api/v2/quote: without a nonce the quote that everybody gets, with one a fresh quote."""
        chain, quote = await self._evidence(nonce)
        return success({"cert": chain, "quote": quote})

    async def quote_v1(self, _who: Identify[None], _nothing: None) -> web.Response:
        """GET /quote."""
        chain, quote = await self._evidence(b"")
        return success({"Cert": chain, "Quote": quote})

    def _state(self) -> tuple[int, str]:
        phase = self.live.current.state.phase
        if phase not in STATUS_MESSAGES:
            raise StateError("cannot determine coordinator status")
        return int(phase), STATUS_MESSAGES[phase]

    async def _evidence(self, nonce: bytes) -> tuple[str, bytes | None]:
        """The chain to the root in PEM, and a quote over that very root; null, as in MarbleRun, if there is none."""
        authority = self.live.current.authority
        root_der = authority.root.public_bytes(Encoding.DER)
        quote = await self.quotes.fresh(root_der, nonce) if nonce else await self.quotes.of(root_der)
        return _chain(authority), quote or None


def read_nonce(incoming: Incoming) -> bytes:
    """`nonce` of the query, base64url with standard padding; empty if there is none."""
    text = incoming.query.get("nonce", "")
    try:
        if _BASE64URL.fullmatch(text):
            return base64.urlsafe_b64decode(text)
    except binascii.Error as problem:
        raise InvalidRequest(f"invalid query: bad nonce format: {problem}") from None
    raise InvalidRequest("invalid query: bad nonce format: not base64url")


def _chain(authority: Authority) -> str:
    """Intermediate, then root."""
    return (authority.intermediate.public_bytes(Encoding.PEM) + authority.root.public_bytes(Encoding.PEM)).decode()
