"""A second opinion: Intel's own quote verification library on what the simulated platform makes."""

import datetime as dt
import json
import re
from pathlib import Path

import pytest

from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform

qvl = pytest.importorskip("sgx_dcap_quote_verify", reason="Intel's library is packaged for Python 3.11 on x86-64 only")

VECTORS = Path(__file__).parents[1] / "vectors"
ENCLAVE = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=2)


def intel_root():
    chain = json.loads(next(VECTORS.glob("sgx-v3-*/collateral.json")).read_text())["pck_crl_issuer_chain"]
    return re.findall("-----BEGIN.*?-----END CERTIFICATE-----\n", chain, re.DOTALL)[-1]


def judge(machine, quote, root, **knobs):
    collateral = machine.collateral(**knobs)
    pck, ca, own_root = re.findall(
        "-----BEGIN.*?-----END CERTIFICATE-----\n", machine.quoting_enclave.pck_chain_pem.decode(), re.DOTALL
    )
    del own_root
    return qvl.verify(
        trusted_root_ca_certificate=root,
        pck_certificate=pck,
        pck_signing_chain=ca + machine.root_pem.decode(),
        root_ca_crl=collateral.root_ca_crl.hex(),
        intermediate_ca_crl=collateral.pck_crl.hex(),
        tcb_info=f'{{"tcbInfo":{collateral.tcb_info},"signature":"{collateral.tcb_info_signature.hex()}"}}',
        tcb_signing_chain=collateral.tcb_info_issuer_chain,
        quote=quote,
        qe_identity=(
            f'{{"enclaveIdentity":{collateral.qe_identity},"signature":"{collateral.qe_identity_signature.hex()}"}}'
        ),
        expiration_date=dt.datetime.now(dt.UTC),
    )


def statuses(verdict):
    return [
        status.name
        for status in (
            verdict.pck_certificate_status,
            verdict.tcb_info_status,
            verdict.qe_identity_status,
            verdict.quote_status,
        )
    ]


@pytest.fixture(scope="module", params=["processor", "platform"])
def machine(request):
    return SimulatedPlatform.create(platform_ca=request.param == "platform")


def test_accepts_under_our_root(machine):
    verdict = judge(machine, machine.quote_sgx(ENCLAVE, bytes(64)), machine.root_pem.decode())
    assert statuses(verdict) == ["STATUS_OK"] * 4
    assert verdict.ok
    assert verdict.enclave_report.mr_enclave == ENCLAVE.mr_enclave


def test_refuses_under_intel_s_root(machine):
    verdict = judge(machine, machine.quote_sgx(ENCLAVE, bytes(64)), intel_root())
    assert not verdict.ok
    assert statuses(verdict)[0] == "STATUS_SGX_PCK_CERT_CHAIN_UNTRUSTED"


def test_refuses_a_changed_measurement(machine):
    quote = bytearray(machine.quote_sgx(ENCLAVE, bytes(64)))
    quote[48 + 64] ^= 1
    verdict = judge(machine, bytes(quote), machine.root_pem.decode())
    assert statuses(verdict)[3] == "STATUS_INVALID_QUOTE_SIGNATURE"


def test_refuses_tcb_info_of_another_pce(machine):
    verdict = judge(machine, machine.quote_sgx(ENCLAVE, bytes(64)), machine.root_pem.decode(), pce_id=b"\x01\x00")
    assert not verdict.ok
    assert "STATUS_TCB_INFO_MISMATCH" in statuses(verdict)
