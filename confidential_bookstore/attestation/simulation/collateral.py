"""Collateral of the simulated provisioning authority: TCB info v3, QE identity v2, CRLs.

Source: Intel SGX and TDX Provisioning Certification Service API, version 4. Documents are signed over their exact JSON
text, which is compact because a PCCS's body reaches the verifier re-serialised that way.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import dcap_qvl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from confidential_bookstore.attestation.simulation.certificates import pem_chain, revocation_list
from confidential_bookstore.attestation.simulation.quoting import (
    QE_MR_SIGNER,
    QE_PRODUCT_ID,
    QE_SECURITY_VERSION,
    TD_QE_PRODUCT_ID,
    Machine,
    raw_signature,
)

EVALUATION_NUMBER = 17
CLOCK_SKEW = dt.timedelta(minutes=5)  # collateral is dated back by this much, for verifiers whose clock is behind


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbLevel:
    """One level of TCB info. The security versions default to the machine's own, so that the level matches it."""

    status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    cpu_svn: bytes | None = None
    pce_svn: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QeLevel:
    """One level of the quoting enclave's identity."""

    status: str = "UpToDate"
    security_version: int = QE_SECURITY_VERSION


DEFAULT_TCB_LEVELS = (
    TcbLevel(),
    TcbLevel(status="OutOfDate", advisories=("INTEL-SA-00000",), cpu_svn=bytes(16), pce_svn=0),
)
DEFAULT_QE_LEVELS = (QeLevel(), QeLevel(status="OutOfDate", security_version=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralIssuer:
    """The authority's side: the root, the CA of PCK certificates and the TCB signer, with their keys."""

    root: x509.Certificate
    root_key: ec.EllipticCurvePrivateKey
    pck_ca: x509.Certificate
    pck_ca_key: ec.EllipticCurvePrivateKey
    tcb_signer: x509.Certificate
    tcb_signer_key: ec.EllipticCurvePrivateKey
    lifetime: dt.timedelta

    def issue(
        self,
        machine: Machine,
        tee: str,
        *,
        now: dt.datetime,
        tcb_levels: Sequence[TcbLevel] = DEFAULT_TCB_LEVELS,
        qe_levels: Sequence[QeLevel] = DEFAULT_QE_LEVELS,
        revoked: Collection[x509.Certificate] = (),
        pce_id: bytes | None = None,
        fmspc: bytes | None = None,
        evaluation_number: int = EVALUATION_NUMBER,
    ) -> dcap_qvl.QuoteCollateralV3:
        """Everything a verifier needs for quotes of `machine`; `tee` is "SGX" or "TDX"."""
        issued = now.replace(microsecond=0) - CLOCK_SKEW
        next_update = issued + self.lifetime
        window = {"issueDate": _zulu(issued), "nextUpdate": _zulu(next_update)}
        tcb_date = _zulu(issued - dt.timedelta(days=90))
        info = {
            "id": tee,
            "version": 3,
            **window,
            "fmspc": (fmspc or machine.fmspc).hex().upper(),
            "pceId": (pce_id or machine.pce_id).hex().upper(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": evaluation_number,
            **(_TDX_MODULE if tee == "TDX" else {}),
            "tcbLevels": [_tcb_level(level, machine, tee, tcb_date) for level in tcb_levels],
        }
        identity = {
            **(_TD_QE if tee == "TDX" else _QE),
            **window,
            "tcbEvaluationDataNumber": evaluation_number,
            "tcbLevels": [_qe_level(level, tcb_date) for level in qe_levels],
        }
        tcb_info, qe_identity = (json.dumps(document, separators=(",", ":")) for document in (info, identity))
        signers = pem_chain(self.tcb_signer, self.root).decode()
        dates = {"issued": issued, "next_update": next_update}
        return dcap_qvl.QuoteCollateralV3(
            pck_crl_issuer_chain=pem_chain(self.pck_ca, self.root).decode(),
            root_ca_crl=revocation_list(self.root, self.root_key, revoked, **dates),
            pck_crl=revocation_list(self.pck_ca, self.pck_ca_key, revoked, **dates),
            tcb_info_issuer_chain=signers,
            tcb_info=tcb_info,
            tcb_info_signature=raw_signature(self.tcb_signer_key, tcb_info.encode()),
            qe_identity_issuer_chain=signers,
            qe_identity=qe_identity,
            qe_identity_signature=raw_signature(self.tcb_signer_key, qe_identity.encode()),
        )


_TDX_MODULE = {"tdxModule": {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}}
_QE = {
    "id": "QE",
    "version": 2,
    "miscselect": "00000000",
    "miscselectMask": "FFFFFFFF",
    "attributes": "05000000000000000000000000000000",  # INITTED and MODE64, not DEBUG
    "attributesMask": "FFFFFFFFFFFFFFFF0000000000000000",
    "mrsigner": QE_MR_SIGNER.hex().upper(),
    "isvprodid": QE_PRODUCT_ID,
}
_TD_QE = {**_QE, "id": "TD_QE", "isvprodid": TD_QE_PRODUCT_ID}


def _tcb_level(level: TcbLevel, machine: Machine, tee: str, tcb_date: str) -> dict[str, object]:
    tcb: dict[str, object] = {
        "sgxtcbcomponents": [{"svn": svn} for svn in level.cpu_svn or machine.cpu_svn],
        "pcesvn": machine.pce_svn if level.pce_svn is None else level.pce_svn,
    }
    if tee == "TDX":
        tcb["tdxtcbcomponents"] = [{"svn": svn} for svn in machine.td_tcb_svn]
    entry: dict[str, object] = {"tcb": tcb, "tcbDate": tcb_date, "tcbStatus": level.status}
    return entry | ({"advisoryIDs": list(level.advisories)} if level.advisories else {})


def _qe_level(level: QeLevel, tcb_date: str) -> dict[str, object]:
    return {"tcb": {"isvsvn": level.security_version}, "tcbDate": tcb_date, "tcbStatus": level.status}


def _zulu(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
