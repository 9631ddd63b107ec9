import asyncio
import contextlib
import dataclasses
import datetime as dt
import gc
import json
import secrets
import socket
import urllib.parse

import dcap_qvl
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from confidential_bookstore.attestation.collateral import (
    CachedCollateral,
    DirectoryCollateral,
    PccsCollateral,
    expiry,
)
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.certificates import issue, pem_chain
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import CollateralUnavailable, EvidenceExpired


class Source:
    """Gives out one collateral and counts; `fail` and `gate` make it fail or wait."""

    def __init__(self, collateral):
        self.collateral = collateral
        self.asked = 0
        self.fail = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def collateral_for(self, quote):
        self.asked += 1
        await self.gate.wait()
        if self.fail:
            raise CollateralUnavailable("nothing today")
        return self.collateral


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def quote(sgx):
    return parse_quote(sgx.raw)


@pytest.fixture
def directory(tmp_path, vector):
    source = DirectoryCollateral(tmp_path)
    file = source.file_for(vector.expected["fmspc"], vector.expected["tee"])
    file.write_text(vector.collateral_file.read_text())
    return source


def test_expiry_is_the_end_of_the_window(vector):
    assert expiry(vector.collateral) == dt.datetime.fromisoformat(vector.expected["window"][1]).timestamp()


async def test_directory(directory, vector):
    found = await directory.collateral_for(parse_quote(vector.raw))
    assert found.tcb_info == vector.collateral.tcb_info
    assert found.to_json() == dcap_qvl.QuoteCollateralV3.from_json(vector.collateral_file.read_text()).to_json()


async def test_directory_names_files_by_platform_and_tee(sgx, tmp_path):
    source = DirectoryCollateral(tmp_path)
    assert source.file_for("00606A000000", "sgx") == tmp_path / "00606a000000-SGX.json"
    (tmp_path / "00606a000000-TDX.json").write_text(sgx.collateral_file.read_text())
    with pytest.raises(CollateralUnavailable, match=r"00606a000000-SGX\.json"):
        await source.collateral_for(parse_quote(sgx.raw))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"tcb_info": "{}"}', b"\xff\xfe"])
async def test_directory_with_a_malformed_file(quote, tmp_path, content):
    source = DirectoryCollateral(tmp_path)
    source.file_for(quote.fmspc, quote.tee).write_bytes(content)
    with pytest.raises(CollateralUnavailable, match="malformed"):
        await source.collateral_for(quote)


async def test_a_pck_chain_in_the_collateral_is_not_passed_on(sgx, vector_named, tmp_path):
    """dcap-qvl would verify with that chain instead of the quote's own, and refuse the quote of another machine."""
    chain = dcap_qvl.parse_quote(vector_named("sgx-v3-00a067110000-f8b81014").raw).cert_chain_pem_bytes()
    document = json.loads(sgx.collateral_file.read_text()) | {"pck_certificate_chain": chain.rstrip(b"\0").decode()}
    source = DirectoryCollateral(tmp_path)
    source.file_for("00606a000000", "SGX").write_text(json.dumps(document))
    verifier = Verifier(TrustRoot.intel(), source, clock=lambda: sgx.now)
    claims = await verifier.verify(sgx.raw, sgx.report_data)
    assert claims.fmspc == "00606a000000"
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify(sgx.raw, dcap_qvl.QuoteCollateralV3.from_json(json.dumps(document)), sgx.now)


async def test_cache_asks_once_an_hour(sgx, quote):
    source, clock = Source(sgx.collateral), Clock(sgx.now)
    cache = CachedCollateral(source, clock)
    for seconds, asked in ((0, 1), (3599, 1), (3600, 2), (7199, 2), (7200, 3)):
        clock.now = sgx.now + seconds
        assert await cache.collateral_for(quote) is sgx.collateral
        assert source.asked == asked


async def test_cache_does_without_its_source_until_the_first_part_expires(sgx, quote):
    end = expiry(sgx.collateral)
    source, clock = Source(sgx.collateral), Clock(sgx.now)
    cache = CachedCollateral(source, clock)
    await cache.collateral_for(quote)
    source.fail = True
    for now, asked in ((end - 100, 2), (end - 50, 2), (end - 1, 3)):  # and asks it no more than once a minute
        clock.now = now
        assert await cache.collateral_for(quote) is sgx.collateral
        assert source.asked == asked
    clock.now = end
    with pytest.raises(CollateralUnavailable):
        await cache.collateral_for(quote)


async def test_cache_keeps_platforms_cas_and_tees_apart(sgx, quote):
    source = Source(sgx.collateral)
    cache = CachedCollateral(source, Clock(sgx.now))
    for change in ({}, {"fmspc": "000000000000"}, {"ca": "processor"}, {"tee": "TDX"}):
        for _ in range(2):
            await cache.collateral_for(dataclasses.replace(quote, **change))
    assert source.asked == 4


async def test_cache_shares_one_fetch(sgx, quote):
    source = Source(sgx.collateral)
    source.gate.clear()
    cache = CachedCollateral(source, Clock(sgx.now))
    requests = [asyncio.create_task(cache.collateral_for(quote)) for _ in range(20)]
    await asyncio.sleep(0)
    requests[0].cancel()  # whoever came first takes nothing away from the others
    await asyncio.sleep(0)
    source.gate.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [sgx.collateral] * 19
    assert source.asked == 1


async def test_cache_keeps_no_failure(sgx, quote):
    source = Source(sgx.collateral)
    source.fail = True
    cache = CachedCollateral(source, Clock(sgx.now))
    answers = await asyncio.gather(*(cache.collateral_for(quote) for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [CollateralUnavailable] * 5
    assert source.asked == 1
    source.fail = False
    assert await cache.collateral_for(quote) is sgx.collateral


async def test_expired_collateral_of_a_source_is_refused_by_the_verifier(sgx):
    clock = Clock(expiry(sgx.collateral) + 1)
    source = Source(sgx.collateral)
    verifier = Verifier(TrustRoot.intel(), CachedCollateral(source, clock), clock)
    for _ in range(2):
        with pytest.raises(EvidenceExpired):
            await verifier.verify(sgx.raw, sgx.report_data)
    assert source.asked == 2


async def test_a_failure_nobody_waits_for_is_silent(sgx, quote, caplog):
    source = Source(sgx.collateral)
    source.gate.clear()
    source.fail = True
    cache = CachedCollateral(source, Clock(sgx.now))
    request = asyncio.create_task(cache.collateral_for(quote))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    request.cancel()
    source.gate.set()
    await asyncio.gather(request, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)
    del request
    gc.collect()  # when asyncio complains of what nobody retrieved
    assert source.asked == 1
    assert caplog.text == ""


async def test_cache_refuses_collateral_that_cannot_be_read(sgx, quote):
    fields = {name: getattr(sgx.collateral, name) for name in json.loads(sgx.collateral.to_json())}
    for name, wrong in (
        ("tcb_info", "{"),
        ("tcb_info", "{}"),
        ("qe_identity", '{"nextUpdate": 5}'),
        ("qe_identity", '{"nextUpdate": "2026-01-01T00:00:00"}'),
        ("pck_crl", b""),
        ("root_ca_crl", b"\x00"),
        ("tcb_info_issuer_chain", ""),
    ):
        cache = CachedCollateral(Source(dcap_qvl.QuoteCollateralV3(**fields | {name: wrong})), Clock(sgx.now))
        with pytest.raises(CollateralUnavailable, match="malformed"):
            await cache.collateral_for(quote)


def test_expiry_of_a_crl_broken_anywhere(sgx):
    fields = {name: getattr(sgx.collateral, name) for name in json.loads(sgx.collateral.to_json())}
    crl = sgx.collateral.root_ca_crl
    for index in range(len(crl)):
        broken = crl[:index] + bytes([crl[index] ^ 0x11]) + crl[index + 1 :]
        with contextlib.suppress(CollateralUnavailable):
            assert expiry(dcap_qvl.QuoteCollateralV3(**fields | {"root_ca_crl": broken}))


ENCLAVE = EnclaveIdentity(mr_enclave=bytes(32), mr_signer=bytes(32), product_id=1, security_version=1)


@pytest.fixture(scope="module")
def platform():
    return SimulatedPlatform.create()


def another_machine(platform):
    """A second machine of the same model, certified by the same authority."""
    machine = dataclasses.replace(platform.machine, ppid=secrets.token_bytes(16), qe_id=secrets.token_bytes(16))
    key, attestation_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority, old = platform.authority, platform.pck_certificate
    certificate = issue(
        "SGX PCK Certificate",
        key,
        issuer=authority.pck_ca,
        issuer_key=authority.pck_ca_key,
        machine=machine,
        validity=(old.not_valid_before_utc, old.not_valid_after_utc),
    )
    enclave = dataclasses.replace(
        platform.quoting_enclave,
        machine=machine,
        pck_key=key,
        attestation_key=attestation_key,
        pck_chain_pem=pem_chain(certificate, authority.pck_ca, authority.root),
    )
    return dataclasses.replace(platform, quoting_enclave=enclave, pck_certificate=certificate)


def pccs_answers(collateral):
    """By the end of the path: body, and the header that carries the issuers' certificates."""
    chain = urllib.parse.quote
    tcb = f'{{"tcbInfo":{collateral.tcb_info},"signature":"{collateral.tcb_info_signature.hex()}"}}'
    qe = f'{{"enclaveIdentity":{collateral.qe_identity},"signature":"{collateral.qe_identity_signature.hex()}"}}'
    return {
        "/sgx/certification/v4/pckcrl": (
            collateral.pck_crl,
            f"SGX-PCK-CRL-Issuer-Chain: {chain(collateral.pck_crl_issuer_chain)}",
        ),
        "/sgx/certification/v4/tcb": (
            tcb.encode(),
            f"TCB-Info-Issuer-Chain: {chain(collateral.tcb_info_issuer_chain)}",
        ),
        "/sgx/certification/v4/qe/identity": (
            qe.encode(),
            f"SGX-Enclave-Identity-Issuer-Chain: {chain(collateral.qe_identity_issuer_chain)}",
        ),
        "/sgx/certification/v4/rootcacrl": (collateral.root_ca_crl.hex().encode(), "X-Nothing: 0"),
    }


@contextlib.asynccontextmanager
async def pccs(answers):
    """A caching service on loopback; yields its address and the list of paths it was asked for."""
    asked = []

    async def answer(reader, writer):
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = urllib.parse.urlsplit(request.split()[1]).path
        asked.append(path)
        body, header = answers.get(path, (b"", "X-Nothing: 0"))
        status = "200 OK" if path in answers else "404 Not Found"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{header}\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_pccs(platform):
    async with pccs(pccs_answers(platform.collateral())) as (url, asked):
        source = CachedCollateral(PccsCollateral(url))
        verifier = Verifier(TrustRoot.from_pem(platform.root_pem), source)
        claims = await verifier.verify(platform.quote_sgx(ENCLAVE, bytes(64)), bytes(64))
        assert claims.tcb_status == "UpToDate"
        fetched = len(asked)
        assert set(asked) == set(pccs_answers(platform.collateral()))
        other = another_machine(platform)
        assert await verifier.verify(other.quote_sgx(ENCLAVE, bytes(64)), bytes(64)) == claims
        assert len(asked) == fetched


async def test_pccs_that_does_not_know_the_platform(quote):
    async with pccs({}) as (url, _):
        with pytest.raises(CollateralUnavailable, match="no collateral"):
            await PccsCollateral(url).collateral_for(quote)


async def test_pccs_that_answers_nonsense(platform):
    answers = dict.fromkeys(pccs_answers(platform.collateral()), (b"nonsense", "X-Nothing: 0"))
    async with pccs(answers) as (url, _):
        with pytest.raises(CollateralUnavailable):
            await PccsCollateral(url).collateral_for(parse_quote(platform.quote_sgx(ENCLAVE, bytes(64))))


@pytest.fixture
def silent_server():
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


async def test_pccs_that_does_not_answer(quote, silent_server):
    with pytest.raises(CollateralUnavailable, match=r"within 0\.2 s"):
        await PccsCollateral(silent_server, timeout=0.2).collateral_for(quote)


async def test_pccs_that_is_not_there(quote):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(CollateralUnavailable):
        await PccsCollateral(f"http://127.0.0.1:{port}").collateral_for(quote)


@pytest.mark.parametrize("url", ["", "no url", "http://", "ftp://127.0.0.1"])
async def test_pccs_address_without_sense(quote, url):
    with pytest.raises(CollateralUnavailable):
        await PccsCollateral(url).collateral_for(quote)
