"""Verifies a coordinator for a data owner, and keeps what the verdict was based on.

The work is `coordinator_trust`'s, the same that every marble does. Here it is done with a witness: nonce, quote and
collateral are kept, so that the verdict can be repeated by somebody else, elsewhere and later (`evidence`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.collateral import CollateralSource
from confidential_bookstore.attestation.quote import Quote
from confidential_bookstore.attestation.roots import TrustRoot, root_key_id
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import CollateralUnavailable, CoordinatorUnavailable, CoordinatorUntrusted
from confidential_bookstore.marble.coordinator_trust import (
    CoordinatorTrust,
    VerifiedCoordinator,
    verify_coordinator,
)
from confidential_bookstore.owner.connection import UNREACHABLE, changed_root
from confidential_bookstore.owner.policy import Policy


@dataclass(frozen=True, slots=True)
class AttestedCoordinator:
    """A coordinator that was accepted by its quote, and on what grounds.

    `time` is in Unix seconds: at that time the evidence was valid. `quote` is bare, without Open Enclave header.
    """

    coordinator: VerifiedCoordinator
    claims: Claims
    policy: Policy
    trust_root: TrustRoot
    nonce: bytes
    quote: bytes
    collateral: dcap_qvl.QuoteCollateralV3
    time: int

    @property
    def trust_root_pem(self) -> bytes:
        """The pinned root of the quote. Intel's is built into dcap-qvl; then it is taken from the verified chain."""
        if self.trust_root.certificate_der is not None:
            return x509.load_der_x509_certificate(self.trust_root.certificate_der).public_bytes(Encoding.PEM)
        for certificate in x509.load_pem_x509_certificates(self.collateral.tcb_info_issuer_chain.encode()):
            key = certificate.public_key()
            if isinstance(key, ec.EllipticCurvePublicKey) and root_key_id(key) == self.trust_root.key_id:
                return certificate.public_bytes(Encoding.PEM)
        raise CoordinatorUntrusted("the collateral's chain does not hold the root", expected=self.trust_root.key_id)


@dataclass(slots=True)
class _Witness:
    """A source of collateral that remembers what it was asked and what it gave."""

    source: CollateralSource
    given: list[tuple[Quote, dcap_qvl.QuoteCollateralV3]] = field(default_factory=list)

    async def collateral_for(self, quote: Quote) -> dcap_qvl.QuoteCollateralV3:
        collateral = await self.source.collateral_for(quote)
        self.given.append((quote, collateral))
        return collateral


async def attest(
    address: str,
    policy: Policy,
    trust_root: TrustRoot,
    collateral: CollateralSource,
    *,
    known_root: x509.Certificate | None = None,
    clock: Callable[[], float] = time.time,
) -> AttestedCoordinator:
    """Ask the client API at `address` for a quote over a fresh nonce, and judge it by the policy.

    Args:
        address: `host:port`.
        policy: the code that is accepted.
        trust_root: under which the quote must verify.
        collateral: where TCB info, QE identity and CRLs come from.
        known_root: if given, the coordinator's own root certificate must be this one, too.
        clock: Unix seconds.

    Raises:
        CoordinatorUnavailable: no answer, no quote, or no collateral.
        CoordinatorUntrusted: the evidence is not accepted, or the root certificate is another one.
    """
    witness, now, nonce = _Witness(collateral), int(clock()), b""

    def new_nonce(size: int) -> bytes:
        nonlocal nonce
        nonce = secrets.token_bytes(size)
        return nonce

    trust = CoordinatorTrust(Verifier(trust_root, witness, lambda: now), policy.package)
    try:
        coordinator = await verify_coordinator(address, trust, new_nonce=new_nonce)
    except CoordinatorUnavailable as error:
        if isinstance(error.__cause__, CollateralUnavailable):
            raise
        raise CoordinatorUnavailable(error.message, got=error.got, expected=error.expected, hint=UNREACHABLE) from error
    if known_root is not None and coordinator.root != known_root:
        raise changed_root(address, expected=known_root)
    if coordinator.claims is None:
        raise CoordinatorUntrusted("the coordinator was not attested")
    ((quote, used),) = witness.given
    return AttestedCoordinator(coordinator, coordinator.claims, policy, trust_root, nonce, quote.raw, used, now)
