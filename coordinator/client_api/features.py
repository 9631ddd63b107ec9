"""Endpoints that are off unless the manifest's feature gates name them: signing quotes, and marbles' counters."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from aiohttp import web

from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import AttestationError, QuoteRefused
from coordinator.client_api.authentication import Identify, Marble
from coordinator.client_api.envelope import fail, success
from coordinator.client_api.go_json import read_object
from coordinator.client_api.routes import Incoming
from coordinator.deployment.counters import raise_counter
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import LiveDeployment


@dataclass(frozen=True, slots=True)
class SignQuoteEndpoint:
    """POST /api/v2/sign-quote.

    Attributes:
        verifier: None where there is nothing that quotes could be verified with.
    """

    live: LiveDeployment
    verifier: Verifier | None

    async def sign(self, _who: Identify[None], quote: bytes) -> web.Response:
        """Says, with the root key, that a quote is genuine and what its TCB status is; not whose quote it is."""
        if not quote:
            message = "field sgxQuote is empty"
            return fail(400, message, {"sgxQuote": message})
        status = await self._tcb_status(quote)
        signature = self.live.current.authority.sign(base64.b64encode(quote) + status.encode())
        return success({"tcbStatus": status, "verificationSignature": signature})

    async def _tcb_status(self, quote: bytes) -> str:
        if self.verifier is None:
            raise QuoteRefused("quote verification failed: OE_UNSUPPORTED")
        try:
            return (await self.verifier.verify_any_report_data(quote)).tcb_status
        except AttestationError as problem:
            raise QuoteRefused(f"quote verification failed: {problem}") from problem


@dataclass(frozen=True, slots=True)
class CounterEndpoint:
    """POST /api/v2/monotonic-counter."""

    live: LiveDeployment

    async def raise_to(self, who: Identify[Marble], request: tuple[str, int]) -> web.Response:
        """Raises the marble's counter to at least a value and tells what it was before."""
        name, value = request

        def step(deployment: Deployment) -> tuple[Deployment, int]:
            marble = who(deployment)
            return raise_counter(deployment, marble.marble_type, marble.uuid, name, value)

        return success({"value": await self.live.change(step)})


def read_quote(incoming: Incoming) -> bytes:
    """`{"sgxQuote": base64}`."""
    return read_object(incoming.body).bytes("sgxQuote")


def read_counter(incoming: Incoming) -> tuple[str, int]:
    """`{"name": text, "value": uint64}`."""
    fields = read_object(incoming.body)
    return fields.text("name"), fields.uint64("value")
