"""Simulated evidence against a simulated root: what real vectors cannot show, each refusal provoked for real."""

import asyncio
import dataclasses
import datetime as dt

import dcap_qvl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.refusals import REFUSALS
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.collateral import QeLevel, TcbLevel
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity, TdIdentity
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import (
    AttestationError,
    CertificateRevoked,
    CollateralUnavailable,
    DebugEnclave,
    EvidenceExpired,
    PceIdMismatch,
    QuoteRefused,
    ReportDataMismatch,
    TcbUnknown,
    UntrustedRoot,
)

NOW = 1_800_000_000
DAY = 86_400
DATA = bytes(range(64))
ENCLAVE = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=7)
TD = TdIdentity(mr_td=b"m" * 48, rtmrs=(b"0" * 48, b"1" * 48, b"2" * 48, b"3" * 48))
PARTS = {
    "root_ca_crl": ("root_ca_crl",),
    "pck_crl": ("pck_crl",),
    "tcb_info": ("tcb_info", "tcb_info_signature", "tcb_info_issuer_chain"),
    "qe_identity": ("qe_identity", "qe_identity_signature", "qe_identity_issuer_chain"),
    "pck_crl_issuer_chain": ("pck_crl_issuer_chain",),
}


@pytest.fixture(scope="module", params=[False, True], ids=["processor", "platform"])
def any_platform(request):
    return SimulatedPlatform.create(platform_ca=request.param, now=NOW)


@pytest.fixture(scope="module")
def platform():
    return SimulatedPlatform.create(now=NOW)


@pytest.fixture(scope="module")
def stranger():
    """Another installation's simulated platform, with the same names in its certificates."""
    return SimulatedPlatform.create(now=NOW)


class Stored:
    def __init__(self, collateral):
        self._collateral = collateral

    async def collateral_for(self, quote):
        return self._collateral


class Nothing:
    async def collateral_for(self, quote):
        raise CollateralUnavailable("nothing is known of this platform")


def verify(platform, quote, collateral, *, root=None, now=NOW, report_data=DATA):
    """Verified both ways there are, which agree."""
    verifier = Verifier(root or TrustRoot.from_pem(platform.root_pem), Stored(collateral), clock=lambda: now)
    try:
        claims = verifier.check(parse_quote(quote), collateral, report_data, now)
    except AttestationError as error:
        with pytest.raises(type(error)):
            asyncio.run(verifier.verify(quote, report_data))
        raise
    assert asyncio.run(verifier.verify(quote, report_data)) == claims
    return claims


def with_parts(collateral, **others):
    """Collateral with some of its parts taken from other collateral, or given as they are."""
    fields = {name: getattr(collateral, name) for names in PARTS.values() for name in names}
    for part, other in others.items():
        if isinstance(other, dcap_qvl.QuoteCollateralV3):
            fields |= {name: getattr(other, name) for name in PARTS[part]}
        else:
            fields[part] = other
    return dcap_qvl.QuoteCollateralV3(**fields)


def without_root(platform):
    """The same platform, with a chain that stops below its root."""
    chain = platform.quoting_enclave.pck_chain_pem.replace(platform.root_pem, b"")
    enclave = dataclasses.replace(platform.quoting_enclave, pck_chain_pem=chain)
    return dataclasses.replace(platform, quoting_enclave=enclave)


def test_sgx_quote_is_accepted_under_its_own_root(any_platform):
    claims = verify(any_platform, any_platform.quote_sgx(ENCLAVE, DATA), any_platform.collateral(now=NOW))
    assert claims.simulated
    assert claims.root_key_id == TrustRoot.from_pem(any_platform.root_pem).key_id
    assert (claims.tee, claims.tcb_status, claims.advisories, claims.debug) == ("SGX", "UpToDate", (), False)
    assert (claims.unique_id, claims.signer_id) == ((b"e" * 32).hex(), (b"s" * 32).hex())
    assert (claims.product_id, claims.security_version) == (3, 7)
    assert NOW < claims.expires <= NOW + 30 * DAY


@pytest.mark.parametrize(("version", "body_type"), [(4, 2), (5, 2), (5, 3)])
def test_td_quotes_are_accepted_under_their_own_root(any_platform, version, body_type):
    quote = any_platform.quote_tdx(TD, DATA, version=version, body_type=body_type)
    claims = verify(any_platform, quote, any_platform.collateral("TDX", now=NOW))
    assert (claims.simulated, claims.tee, claims.unique_id) == (True, "TDX", (b"m" * 48).hex())
    assert claims.rtmrs == tuple((digit * 48).hex() for digit in (b"0", b"1", b"2", b"3"))


def test_a_simulated_quote_never_passes_under_intels_root(any_platform):
    quote = any_platform.quote_sgx(ENCLAVE, DATA)
    with pytest.raises(UntrustedRoot) as refused:
        verify(any_platform, quote, any_platform.collateral(now=NOW), root=TrustRoot.intel())
    assert refused.value.got == TrustRoot.from_pem(any_platform.root_pem).key_id
    assert refused.value.expected == TrustRoot.intel().key_id


def test_a_real_quote_never_passes_under_a_simulated_root(platform, vector):
    with pytest.raises(UntrustedRoot):
        verify(platform, vector.raw, vector.collateral, now=vector.now, report_data=vector.report_data)


def test_another_simulated_root_is_another_root(platform, stranger):
    quote, collateral = stranger.quote_sgx(ENCLAVE, DATA), stranger.collateral(now=NOW)
    verify(stranger, quote, collateral)
    with pytest.raises(UntrustedRoot):
        verify(platform, quote, collateral)


def test_a_foreign_root_is_named_before_collateral_is_looked_for(stranger):
    verifier = Verifier(TrustRoot.intel(), Nothing(), clock=lambda: NOW)
    with pytest.raises(UntrustedRoot):
        asyncio.run(verifier.verify(stranger.quote_sgx(ENCLAVE, DATA), DATA))


def test_the_pinned_root_at_the_end_of_a_foreign_chain_is_of_no_use(platform, stranger):
    """A quote that claims the pinned root, without being certified by it."""
    forged = dataclasses.replace(
        stranger.quoting_enclave,
        pck_chain_pem=stranger.quoting_enclave.pck_chain_pem.replace(stranger.root_pem, platform.root_pem),
    )
    quote = dataclasses.replace(stranger, quoting_enclave=forged).quote_sgx(ENCLAVE, DATA)
    assert parse_quote(quote).root_key_id == TrustRoot.from_pem(platform.root_pem).key_id
    for collateral in (platform.collateral(now=NOW), stranger.collateral(now=NOW)):
        with pytest.raises(UntrustedRoot):
            verify(platform, quote, collateral)


def test_a_chain_without_its_root_is_verified_under_the_pinned_one(platform, stranger):
    quote = without_root(platform).quote_sgx(ENCLAVE, DATA)
    assert parse_quote(quote).root_key_id == ""
    assert verify(platform, quote, platform.collateral(now=NOW)).simulated
    with pytest.raises(UntrustedRoot):
        verify(stranger, quote, stranger.collateral(now=NOW))


def test_the_root_that_verified_is_compared_with_the_pinned_key(platform):
    """A trust root whose key id is not its certificate's, and a quote that does not show its root."""
    root = dataclasses.replace(TrustRoot.from_pem(platform.root_pem), key_id=TrustRoot.intel().key_id)
    quote = without_root(platform).quote_sgx(ENCLAVE, DATA)
    with pytest.raises(UntrustedRoot):
        verify(platform, quote, platform.collateral(now=NOW), root=root)


def test_the_attestation_key_of_another_machine_is_refused(platform, stranger):
    """The certificates of one machine around the keys of another."""
    forged = dataclasses.replace(
        stranger.quoting_enclave, pck_chain_pem=platform.quoting_enclave.pck_chain_pem, machine=platform.machine
    )
    quote = dataclasses.replace(stranger, quoting_enclave=forged).quote_sgx(ENCLAVE, DATA)
    with pytest.raises(QuoteRefused, match="qe_report"):
        verify(platform, quote, platform.collateral(now=NOW))


def revoked(certificate):
    def evidence(platform):
        return platform.quote_sgx(ENCLAVE, DATA), platform.collateral(now=NOW, revoked=[certificate(platform)]), NOW

    return evidence


def at(now):
    return lambda platform: (platform.quote_sgx(ENCLAVE, DATA), platform.collateral(now=NOW), now)


def part_of_another_time(part, now):
    def evidence(platform):
        collateral = with_parts(platform.collateral(now=NOW), **{part: platform.collateral(now=now)})
        return platform.quote_sgx(ENCLAVE, DATA), collateral, NOW

    return evidence


def levels(**kwargs):
    return lambda platform: (platform.quote_sgx(ENCLAVE, DATA), platform.collateral(now=NOW, **kwargs), NOW)


def td(**changes):
    identity = dataclasses.replace(TD, **changes)
    return lambda platform: (platform.quote_tdx(identity, DATA), platform.collateral("TDX", now=NOW), NOW)


def edited(offset, mask=1):
    def evidence(platform):
        quote = bytearray(platform.quote_sgx(ENCLAVE, DATA))
        quote[offset] ^= mask
        return bytes(quote), platform.collateral(now=NOW), NOW

    return evidence


def with_collateral(make):
    """`make(collateral)` gives the parts to put in place of the good ones."""

    def evidence(platform):
        collateral = platform.collateral(now=NOW)
        return platform.quote_sgx(ENCLAVE, DATA), with_parts(collateral, **make(collateral)), NOW

    return evidence


def flip_last(data):
    return data[:-1] + bytes([data[-1] ^ 1])


REFUSED = {
    "PCK certificate revoked": (CertificateRevoked, revoked(lambda p: p.pck_certificate)),
    "PCK CA revoked": (CertificateRevoked, revoked(lambda p: p.authority.pck_ca)),
    "TCB signer revoked": (CertificateRevoked, revoked(lambda p: p.authority.tcb_signer)),
    "root revoked": (CertificateRevoked, revoked(lambda p: p.authority.root)),
    "before the evidence": (EvidenceExpired, at(NOW - DAY)),
    "after the evidence": (EvidenceExpired, at(NOW + 31 * DAY)),
    "long after the evidence": (EvidenceExpired, at(NOW + 36_500 * DAY)),
    **{f"old {part}": (EvidenceExpired, part_of_another_time(part, NOW - 40 * DAY)) for part in list(PARTS)[:4]},
    **{f"future {part}": (EvidenceExpired, part_of_another_time(part, NOW + 40 * DAY)) for part in list(PARTS)[:4]},
    "no TCB level": (TcbUnknown, levels(tcb_levels=[TcbLevel(cpu_svn=bytes([255] * 16))])),
    "no TCB level for the PCE": (TcbUnknown, levels(tcb_levels=[TcbLevel(pce_svn=99)])),
    "other PCE": (PceIdMismatch, levels(pce_id=b"\x00\x01")),
    "debug enclave": (
        DebugEnclave,
        lambda p: (p.quote_sgx(dataclasses.replace(ENCLAVE, debug=True), DATA), p.collateral(now=NOW), NOW),
    ),
    "debug TD": (DebugEnclave, td(attributes=1 << 28 | 1)),
    "TD without SEPT_VE_DISABLE": (QuoteRefused, td(attributes=0)),
    "migratable TD": (QuoteRefused, td(attributes=1 << 28 | 1 << 29)),
    "reserved TD attributes": (QuoteRefused, td(attributes=1 << 28 | 1 << 40)),
    "TCB revoked": (QuoteRefused, levels(tcb_levels=[TcbLevel(status="Revoked")])),
    "quoting enclave revoked": (QuoteRefused, levels(qe_levels=[QeLevel(status="Revoked")])),
    "quoting enclave too old": (QuoteRefused, levels(qe_levels=[QeLevel(security_version=99)])),
    "another FMSPC": (QuoteRefused, levels(fmspc=bytes(6))),
    "collateral of the other TEE": (
        QuoteRefused,
        lambda p: (p.quote_sgx(ENCLAVE, DATA), p.collateral("TDX", now=NOW), NOW),
    ),
    "QE vendor": (QuoteRefused, edited(12)),
    "report": (QuoteRefused, edited(112)),
    "report data": (QuoteRefused, edited(431)),
    "signature": (QuoteRefused, edited(440)),
    "attestation key": (QuoteRefused, edited(500)),
    "QE report": (QuoteRefused, edited(564)),
    "QE report signature": (QuoteRefused, edited(950)),
    "QE authentication data": (QuoteRefused, edited(1020)),
    "edited TCB info": (
        QuoteRefused,
        with_collateral(lambda c: {"tcb_info": c.tcb_info.replace('"tcbType":0', '"tcbType":1')}),
    ),
    "TCB info that is no JSON": (QuoteRefused, with_collateral(lambda c: {"tcb_info": "{"})),
    "edited QE identity": (QuoteRefused, with_collateral(lambda c: {"qe_identity": c.qe_identity + " "})),
    "signature cut short": (QuoteRefused, with_collateral(lambda c: {"tcb_info_signature": b"\x00"})),
    "no issuer chain": (QuoteRefused, with_collateral(lambda c: {"tcb_info_issuer_chain": ""})),
    "edited PCK CRL": (QuoteRefused, with_collateral(lambda c: {"pck_crl": flip_last(c.pck_crl)})),
    "edited root CRL": (UntrustedRoot, with_collateral(lambda c: {"root_ca_crl": flip_last(c.root_ca_crl)})),
    "no PCK CRL": (QuoteRefused, with_collateral(lambda c: {"pck_crl": b""})),
    "no root CRL": (QuoteRefused, with_collateral(lambda c: {"root_ca_crl": b""})),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(platform, case):
    error, evidence = REFUSED[case]
    quote, collateral, now = evidence(platform)
    with pytest.raises(AttestationError) as refused:
        verify(platform, quote, collateral, now=now)
    assert type(refused.value) is error
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", ["root_ca_crl", "tcb_info", "qe_identity"])
def test_collateral_of_another_root_is_refused(platform, stranger, part):
    collateral = with_parts(platform.collateral(now=NOW), **{part: stranger.collateral(now=NOW)})
    with pytest.raises(UntrustedRoot) as refused:
        verify(platform, platform.quote_sgx(ENCLAVE, DATA), collateral)
    assert refused.value.expected == TrustRoot.from_pem(platform.root_pem).key_id


def test_certificates_have_their_time(platform):
    brief = SimulatedPlatform.create(now=NOW, lifetime=dt.timedelta(days=2))
    quote = brief.quote_sgx(ENCLAVE, DATA)
    with pytest.raises(EvidenceExpired, match="certificate of the evidence has expired") as refused:
        verify(brief, quote, brief.collateral(now=NOW), now=NOW + 5 * DAY)
    assert (refused.value.got, refused.value.expected) == (
        "2027-01-20T08:00:00+00:00",
        "not_after 2027-01-17T07:00:00+00:00",
    )
    with pytest.raises(EvidenceExpired, match="not valid yet"):
        verify(platform, platform.quote_sgx(ENCLAVE, DATA), platform.collateral(now=NOW - 5 * DAY), now=NOW - 4 * DAY)


def test_every_row_of_the_table_was_provoked(platform, stranger, vector_named):
    """No row is there that dcap-qvl does not produce: the messages of all evidence here, real quotes included."""
    debug = vector_named("sgx-v3-00606a000000-45ec124b")
    brief = SimulatedPlatform.create(now=NOW, lifetime=dt.timedelta(days=2))
    real_now = vector_named("sgx-v3-00a067110000-f8b81014")
    contemporary = SimulatedPlatform.create(now=real_now.now)
    evidence = [(platform, *make(platform)) for _, make in REFUSED.values()]
    evidence += [
        (platform, platform.quote_sgx(ENCLAVE, DATA), platform.collateral(now=NOW - 5 * DAY), NOW - 4 * DAY),
        (brief, brief.quote_sgx(ENCLAVE, DATA), brief.collateral(now=NOW), NOW + 5 * DAY),
        (platform, stranger.quote_sgx(ENCLAVE, DATA), platform.collateral(now=NOW), NOW),
        (contemporary, real_now.raw, contemporary.collateral(now=real_now.now), real_now.now),
    ]
    texts = []
    for source, quote, collateral, now in evidence:
        try:
            dcap_qvl.verify_with_root_ca(quote, collateral, source.root_der, now)
        except ValueError as error:
            texts.append(" ".join(str(error).replace("\n\nCaused by:\n", ": ").split()))
    with pytest.raises(ValueError, match="Debug mode is enabled"):
        dcap_qvl.verify(debug.raw, debug.collateral, debug.now)
    assert {row.text for row in REFUSALS if not any(row.text in text for text in texts)} == set()


@pytest.mark.parametrize("status", ["UpToDate", "SWHardeningNeeded", "OutOfDate", "ConfigurationNeeded"])
def test_tcb_statuses_are_reported_and_left_to_the_package(platform, status):
    levels = [TcbLevel(status=status, advisories=("INTEL-SA-00001",))]
    claims = verify(platform, platform.quote_sgx(ENCLAVE, DATA), platform.collateral(now=NOW, tcb_levels=levels))
    assert (claims.tcb_status, claims.advisories) == (status, ("INTEL-SA-00001",))


def test_the_quoting_enclaves_status_counts_too(platform):
    collateral = platform.collateral(now=NOW, qe_levels=[QeLevel(status="OutOfDate")])
    assert verify(platform, platform.quote_sgx(ENCLAVE, DATA), collateral).tcb_status == "OutOfDate"


def test_report_data_of_another_key(platform):
    quote = platform.quote_sgx(ENCLAVE, DATA)
    with pytest.raises(ReportDataMismatch) as refused:
        verify(platform, quote, platform.collateral(now=NOW), report_data=bytes(64))
    assert (refused.value.got, refused.value.expected) == (DATA.hex(), bytes(64).hex())


@given(data=st.data())
def test_no_mutation_of_a_simulated_report_is_accepted(platform, data):
    quote = bytearray(platform.quote_sgx(ENCLAVE, DATA))
    quote[data.draw(st.integers(0, 431))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(AttestationError):
        verify(platform, bytes(quote), platform.collateral(now=NOW))
