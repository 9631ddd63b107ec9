"""The verifier: from a quote to claims that may be believed.

There is one, for real and simulated evidence alike; they differ in the pinned root and in nothing else. dcap-qvl checks
signatures, certificate chains, revocation, times and TCB levels. Four rules are added to it: the evidence was verified
under the very root that was pinned, all of it was issued already, the TCB info is for the PCE that the PCK certificate
names, and all 64 bytes of report data are the expected ones. Whose code the quote speaks for is the business of
`package`.
"""

from __future__ import annotations

import functools
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import dcap_qvl

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.collateral import CollateralSource
from confidential_bookstore.attestation.quote import Quote, parse_quote
from confidential_bookstore.attestation.refusals import date, refusal
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.errors import EvidenceExpired, PceIdMismatch, ReportDataMismatch, UntrustedRoot

_SGX_DEBUG = 0x02  # SGX attributes, byte 0
_TD_DEBUG = 0x01  # TD attributes, byte 0


class Verifier:
    """Verifies quotes against one pinned root.

    Args:
        root: the only root that is accepted.
        collateral: where TCB info, QE identity and CRLs come from; it needs no trust, they are signed.
        clock: Unix seconds. Stored evidence is valid only at its own time.
    """

    def __init__(self, root: TrustRoot, collateral: CollateralSource, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self._collateral = collateral
        self._clock = clock
        self._qvl = dcap_qvl.QuoteVerifier(root.certificate_der)

    async def verify(self, quote: bytes, report_data: bytes) -> Claims:
        """What the quote proves, if it carries exactly these 64 bytes of report data.

        Raises:
            AttestationError: the quote is not accepted; the subclass says why.
        """
        return await self._verify(parse_quote(quote), report_data)

    async def verify_any_report_data(self, quote: bytes) -> Claims:
        """What the quote proves of somebody unknown: it is genuine, but of any key, and anybody may have sent it.

        Never for admitting a peer; for telling a third party that a quote verifies, as `sign-quote` does.

        Raises:
            AttestationError: the quote is not accepted; the subclass says why.
        """
        parsed = parse_quote(quote)
        return await self._verify(parsed, parsed.report_data)

    async def _verify(self, quote: Quote, report_data: bytes) -> Claims:
        self._require_claimed_root(quote)  # before anybody is asked for collateral of a foreign platform
        collateral = await self._collateral.collateral_for(quote)
        return self.check(quote, collateral, report_data, int(self._clock()))

    def check(self, quote: Quote, collateral: dcap_qvl.QuoteCollateralV3, report_data: bytes, now: int) -> Claims:
        """The verdict itself, without I/O or clock: `now` is in Unix seconds. Takes about 0.7 ms.

        Raises:
            AttestationError: the quote is not accepted; the subclass says why.
        """
        self._require_claimed_root(quote)
        try:
            policy = dcap_qvl.QuotePolicy.claims_only(now)
            verified = self._qvl.verify_with_policy(quote.raw, collateral, now, policy)
        except ValueError as error:
            reason = self._reason(quote, collateral, now) or str(error)
            raise refusal(reason, now=now, root_key_id=self.root.key_id) from error
        except OverflowError as error:
            raise EvidenceExpired("no evidence is valid at this time", got=f"{now} seconds") from error
        found = json.loads(verified.to_json())
        self._require_root(bytes(found["platform"]["root_key_id"]).hex())
        _require_valid(found, now)
        _require_pce(found["platform"]["pck"], collateral.tcb_info)
        claims = _claims(found, self.root.key_id)
        if not hmac.compare_digest(claims.report_data, report_data):
            raise ReportDataMismatch(
                "the quote is of another key than the one being attested",
                got=claims.report_data.hex(),
                expected=report_data.hex(),
            )
        return claims

    def _require_claimed_root(self, quote: Quote) -> None:
        """Names a foreign root early. A chain may leave its root out: then dcap-qvl needs the pinned one anyway."""
        if quote.root_key_id:
            self._require_root(quote.root_key_id)

    def _require_root(self, key_id: str) -> None:
        if key_id != self.root.key_id:
            raise UntrustedRoot("certificate chain ends in another root", got=key_id, expected=self.root.key_id)

    def _reason(self, quote: Quote, collateral: dcap_qvl.QuoteCollateralV3, now: int) -> str:
        """Why dcap-qvl refuses, with the cause: `verify_with_policy` tells the headline only. Empty if it does not."""
        try:
            if self.root.certificate_der is None:
                dcap_qvl.verify(quote.raw, collateral, now)
            else:
                dcap_qvl.verify_with_root_ca(quote.raw, collateral, self.root.certificate_der, now)
        except ValueError as error:
            return str(error)
        return ""


def _require_valid(found: Mapping[str, Any], now: int) -> None:
    """Every part of the evidence is in its time. dcap-qvl does not look at when a CRL was issued."""
    issued, expires = found["latest_issue_date"], found["earliest_expiration_date"]
    if not issued <= now <= expires:
        raise EvidenceExpired(
            "a part of the evidence is not valid at this time",
            got=date(now),
            expected=f"from {date(issued)} to {date(expires)}",
        )


def _require_pce(pck: Mapping[str, Any], tcb_info: str) -> None:
    """dcap-qvl leaves this comparison out; Intel's own library makes it."""
    got, expected = _pce_id(tcb_info), bytes(pck["pce_id"]).hex()
    if got != expected:
        raise PceIdMismatch("the TCB info is for another PCE than the PCK certificate", got=got, expected=expected)


@functools.lru_cache(maxsize=32)  # the same text verifies many quotes
def _pce_id(tcb_info: str) -> str:
    return str(json.loads(tcb_info).get("pceId", "")).lower()


def _claims(found: Mapping[str, Any], root_key_id: str) -> Claims:
    """Claims from the JSON of dcap-qvl's `QuoteClaims`."""
    platform, tcb = found["platform"], found["tcb"]
    ((kind, report),) = found["report"].items()
    while "base" in report:  # TD reports 1.5 hold the 1.0 report, and 1.5 extended holds the 1.5 one
        report = report["base"]
    identity = _sgx_identity(found, report) if kind == "SgxEnclave" else _td_identity(found, report)
    return Claims(
        root_key_id=root_key_id,
        report_data=bytes.fromhex(report["report_data"]),
        tcb_status=tcb["status"],
        advisories=tuple(tcb["advisory_ids"]),
        tcb_evaluation_number=tcb["eval_data_number"],
        fmspc=bytes(platform["pck"]["fmspc"]).hex(),
        expires=found["earliest_expiration_date"],
        **identity,
    )


def _sgx_identity(found: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tee": "SGX",
        "debug": bool(bytes.fromhex(report["attributes"])[0] & _SGX_DEBUG),
        "unique_id": report["mr_enclave"],
        "signer_id": report["mr_signer"],
        "product_id": report["isv_prod_id"],
        "security_version": report["isv_svn"],
        "cpu_svn": bytes.fromhex(report["cpu_svn"]),
        "qe_svn": found["header"]["qe_svn"],
        "pce_svn": found["header"]["pce_svn"],
    }


def _td_identity(found: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    # The header of a TDX quote has zeros in place of the two versions.
    return {
        "tee": "TDX",
        "debug": bool(bytes.fromhex(report["td_attributes"])[0] & _TD_DEBUG),
        "unique_id": report["mr_td"],
        "rtmrs": tuple(report[f"rt_mr{index}"] for index in range(4)),
        "cpu_svn": bytes.fromhex(report["tee_tcb_svn"]),
        "qe_svn": found["qe"]["report"]["isv_svn"],
        "pce_svn": found["platform"]["pck"]["pce_svn"],
    }
