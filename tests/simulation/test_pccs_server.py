"""The PCCS, as dcap-qvl's own client sees it."""

import time

import aiohttp
import dcap_qvl
import pytest

from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity, TdIdentity
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import ConfigurationError

ENCLAVE = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=2)


@pytest.fixture(params=["processor", "platform"])
async def served(request):
    platform = SimulatedPlatform.create(platform_ca=request.param == "platform")
    pccs = await start_pccs(platform)
    yield platform, pccs.url
    await pccs.close()


async def test_round_trip(served):
    platform, url = served
    for quote in (
        platform.quote_sgx(ENCLAVE, bytes(64)),
        platform.quote_tdx(TdIdentity(mr_td=b"t" * 48), bytes(64)),
    ):
        collateral = await dcap_qvl.get_collateral(url, quote)
        report = dcap_qvl.verify_with_root_ca(quote, collateral, platform.root_der, int(time.time()))
        assert report.status == "UpToDate"
        with pytest.raises(ValueError, match="Verification failed"):
            dcap_qvl.verify(quote, collateral, int(time.time()))


async def test_it_serves_one_machine_only(served):
    platform, url = served
    fmspc = platform.machine.fmspc.hex()
    other_ca = "platform" if platform.machine.instance_id is None else "processor"
    async with aiohttp.ClientSession() as session:
        for path, status in [
            (f"/sgx/certification/v4/tcb?fmspc={fmspc}", 200),
            (f"/tdx/certification/v4/tcb?fmspc={fmspc.upper()}", 200),
            ("/sgx/certification/v4/tcb?fmspc=00906ED50000", 404),
            ("/sgx/certification/v4/tcb", 404),
            (f"/sgx/certification/v4/pckcrl?ca={other_ca}&encoding=der", 404),
            ("/snp/certification/v4/qe/identity", 404),
            ("/sgx/certification/v3/qe/identity", 404),
        ]:
            async with session.get(url + path) as answer:
                assert answer.status == status, path


async def test_both_encodings_of_the_crl(served):
    platform, url = served
    kind = "processor" if platform.machine.instance_id is None else "platform"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/sgx/certification/v4/pckcrl?ca={kind}&encoding=der") as answer:
            assert (await answer.read())[0] == 0x30
        async with session.get(f"{url}/sgx/certification/v4/pckcrl?ca={kind}") as answer:
            assert (await answer.text()).startswith("30")


async def test_an_address_in_use_is_an_error(served):
    platform, url = served
    with pytest.raises(ConfigurationError, match="cannot listen"):
        await start_pccs(platform, "127.0.0.1", int(url.rpartition(":")[2]))


async def test_after_closing_nobody_answers(platform):
    pccs = await start_pccs(platform)
    await pccs.close()
    with pytest.raises(ValueError, match="error sending request"):
        await dcap_qvl.get_collateral(pccs.url, platform.quote_sgx(ENCLAVE, bytes(64)))
