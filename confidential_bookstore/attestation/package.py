"""A package: which code may be a marble. MarbleRun's rules, on claims that are verified already.

Source: MarbleRun's manifest reference, sections "Packages" and "Infrastructures", and its quote package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.errors import PackageMismatch


class _Rule(NamedTuple):
    name: str
    holds: bool
    got: object
    expected: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Properties of an enclave or a TDX trust domain. Empty (or None) means any.

    Either `unique_id`, or `signer_id` with `product_id` and `security_version`, must be given. Ids are hex in any case:
    `unique_id` is MRENCLAVE or MRTD, `signer_id` is MRSIGNER, `rtmrs` are RTMR0 to RTMR3. MRTD alone names the virtual
    firmware of a trust domain; the operating system and the application are in its RTMRs. Product id and security
    version exist for SGX only.
    """

    unique_id: str = ""
    signer_id: str = ""
    product_id: int | None = None
    security_version: int | None = None
    debug: bool = False
    accepted_tcb_statuses: tuple[str, ...] = ("SWHardeningNeeded",)
    accepted_advisories: tuple[str, ...] = ()
    rtmrs: tuple[str, ...] = ()

    @property
    def underspecified(self) -> bool:
        """It would let in code that nobody named."""
        by_signer = bool(self.signer_id) and None not in (self.product_id, self.security_version)
        return not (self.unique_id or by_signer)

    def check(self, claims: Claims) -> None:
        """Accepts the claims, or names the first rule that does not hold.

        Raises:
            PackageMismatch: with the rule, what the quote says, and what the package allows.
        """
        for rule in self._rules(claims):
            if not rule.holds:
                raise PackageMismatch(rule.name, got=rule.got, expected=rule.expected)

    def _rules(self, claims: Claims) -> Iterator[_Rule]:
        yield _Rule(
            "identity",
            not self.underspecified,
            "a package that names neither",
            "UniqueID, or SignerID with ProductID and SecurityVersion",
        )
        yield _Rule("Debug", claims.debug == self.debug, claims.debug, self.debug)
        yield _same_id("UniqueID", claims.unique_id, self.unique_id)
        yield _same_id("SignerID", claims.signer_id, self.signer_id)
        for index, expected in enumerate(self.rtmrs):
            yield _same_id(f"RTMR{index}", claims.rtmrs[index] if index < len(claims.rtmrs) else "", expected)
        yield _Rule("ProductID", self.product_id in (None, claims.product_id), claims.product_id, self.product_id)
        yield self._security_version(claims)
        yield from self._tcb(claims)

    def _security_version(self, claims: Claims) -> _Rule:
        got, minimum = claims.security_version, self.security_version
        holds = minimum is None or (got is not None and got >= minimum)
        return _Rule("SecurityVersion", holds, got, f"at least {minimum}")

    def _tcb(self, claims: Claims) -> Iterator[_Rule]:
        """Advisories count only for platforms that need hardening in software; no list accepts them all."""
        accepted = ("UpToDate", *self.accepted_tcb_statuses)
        yield _Rule("TCB status", claims.tcb_status in accepted, claims.tcb_status, " or ".join(accepted))
        if claims.tcb_status == "SWHardeningNeeded" and self.accepted_advisories:
            listed = {advisory.upper() for advisory in self.accepted_advisories}
            others = [advisory for advisory in claims.advisories if advisory.upper() not in listed]
            yield _Rule("advisory", not others, ", ".join(others), ", ".join(self.accepted_advisories))


def _same_id(name: str, got: str, expected: str) -> _Rule:
    return _Rule(name, not expected or got == expected.lower(), got or "none", expected.lower())
