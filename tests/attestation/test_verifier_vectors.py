"""Real quotes, each at its own time, against Intel's root."""

import asyncio
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import (
    AttestationError,
    DebugEnclave,
    EvidenceExpired,
    ReportDataMismatch,
    TcbUnknown,
)

REFUSALS = {"Debug mode is enabled": DebugEnclave, "No matching TCB level found": TcbUnknown}


class Stored:
    def __init__(self, collateral):
        self._collateral = collateral

    async def collateral_for(self, quote):
        return self._collateral


def verify(vector, *, raw=None, now=None, report_data=None, collateral=None):
    verifier = Verifier(
        TrustRoot.intel(), Stored(collateral or vector.collateral), clock=lambda: vector.now if now is None else now
    )
    return asyncio.run(
        verifier.verify(vector.raw if raw is None else raw, vector.report_data if report_data is None else report_data)
    )


def seconds(moment):
    return int(dt.datetime.fromisoformat(moment).timestamp())


def test_no_vector_is_left_out(pytestconfig):
    folder = pytestconfig.rootpath / "tests" / "vectors"
    index = {entry["name"]: entry for entry in json.loads((folder / "index.json").read_text())}
    found = {str(file.parent.relative_to(folder)) for file in folder.rglob("quote.bin")}
    assert found == set(index)
    for name, entry in index.items():
        expected = json.loads((folder / name / "expected.json").read_text())
        assert {**entry, **expected} == entry
        assert (folder / name / "collateral.json").exists() == (entry["result"] != "parse-only")
        assert entry["result"] in {"accept", "reject", "parse-only"}


def test_every_vector_gets_its_verdict(vector):
    expected = vector.expected
    if expected["result"] == "reject":
        with pytest.raises(REFUSALS[expected["error"]]):
            verify(vector)
        return
    claims = verify(vector)
    assert not claims.simulated
    assert claims.root_key_id == INTEL_ROOT_KEY_ID
    assert claims.tee == expected["tee"]
    assert claims.fmspc == expected["fmspc"].lower()
    assert claims.report_data.hex() == expected["report_data"]
    assert claims.debug is expected["debug"] is False
    assert claims.tcb_status == expected["tcb_status"]
    assert list(claims.advisories) == expected["advisory_ids"]
    assert claims.tcb_evaluation_number == expected["tcb_eval_data_number"]
    assert claims.expires == seconds(expected["window"][1])
    if claims.tee == "SGX":
        assert (claims.unique_id, claims.signer_id) == (expected["mr_enclave"], expected["mr_signer"])
        assert (claims.product_id, claims.security_version) == (expected["isv_prod_id"], expected["isv_svn"])
        assert claims.rtmrs == ()
    else:
        assert claims.unique_id == expected["mr_td"]
        assert list(claims.rtmrs) == expected["rtmrs"]
        assert (claims.signer_id, claims.product_id, claims.security_version) == ("", None, None)


def test_versions_of_the_platform_are_those_of_the_quote(accepted):
    raw, claims = accepted.raw, verify(accepted)
    version, qe_svn, pce_svn = (int.from_bytes(raw[start : start + 2], "little") for start in (0, 8, 10))
    body = raw[54 if version == 5 else 48 :]
    assert claims.cpu_svn == body[:16] != bytes(16)
    if claims.tee == "SGX":
        assert (claims.qe_svn, claims.pce_svn) == (qe_svn, pce_svn)
    else:
        assert (qe_svn, pce_svn) == (0, 0)
    assert claims.qe_svn > 0
    assert claims.pce_svn > 0


def test_versions_of_the_platform_of_a_trust_domain(tdx):
    claims = verify(tdx)
    assert (claims.qe_svn, claims.pce_svn) == (8, 11)  # of the quoting enclave's report and the PCK certificate


def test_padding_changes_nothing(accepted):
    assert verify(accepted, raw=accepted.raw + bytes(64)) == verify(accepted)


def test_the_clock_decides(accepted):
    start, end = map(seconds, accepted.expected["window"])
    assert verify(accepted, now=start) == verify(accepted, now=end - 1)
    for outside in (0, start - 1, end + 1, end + 10**9, 2**62):
        with pytest.raises(EvidenceExpired) as refused:
            verify(accepted, now=outside)
        assert refused.value.got


@pytest.mark.parametrize("now", [-1, 2**64])
def test_a_clock_without_sense_is_not_a_time_of_validity(sgx, now):
    with pytest.raises(EvidenceExpired):
        verify(sgx, now=now)


def test_all_64_bytes_of_report_data_count(accepted):
    for index in range(64):
        other = bytearray(accepted.report_data)
        other[index] ^= 1
        with pytest.raises(ReportDataMismatch):
            verify(accepted, report_data=bytes(other))


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_report_data_of_another_length_never_matches(sgx, length):
    with pytest.raises(ReportDataMismatch):
        verify(sgx, report_data=(sgx.report_data + bytes(1))[:length])


def test_collateral_of_another_platform_is_refused(vector_named, sgx, tdx):
    with pytest.raises(AttestationError):
        verify(sgx, collateral=tdx.collateral)
    other = vector_named("sgx-v3-00a067110000-f8b81014")
    with pytest.raises(AttestationError):
        verify(sgx, collateral=other.collateral, now=other.now)


@given(data=st.data())
def test_no_mutation_of_header_or_report_is_accepted(accepted, data):
    raw = bytearray(accepted.raw)
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(0, 431))
        raw[offset] ^= data.draw(st.integers(1, 255))
    if bytes(raw) == accepted.raw:
        return
    with pytest.raises(AttestationError):
        verify(accepted, raw=bytes(raw), report_data=parse_quote(accepted.raw).report_data)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(data=st.data())
def test_a_mutation_elsewhere_changes_no_claim(accepted, data):
    """The unsigned certificate area may vary without harm; whatever is accepted says the same."""
    raw = bytearray(accepted.raw)
    raw[data.draw(st.integers(432, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        claims = verify(accepted, raw=bytes(raw))
    except AttestationError:
        return
    assert claims == verify(accepted)
