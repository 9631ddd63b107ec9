"""The provisioning authority and the quoting enclave, as dcap-qvl judges them."""

import datetime as dt
import json
import stat
import time

import dcap_qvl
import pytest
from cryptography import x509

from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.attestation.simulation.collateral import QeLevel, TcbLevel
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity, TdIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import ConfigurationError, EnclaveError, PlatformError

ENCLAVE = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=0x102)
DOMAIN = TdIdentity(mr_td=b"t" * 48, rtmrs=(b"0" * 48, b"1" * 48, b"2" * 48, b"3" * 48))
REPORT_DATA = bytes(range(64))
KINDS = ["sgx-v3", "tdx-v4", "tdx-v5-1.0", "tdx-v5-1.5"]


def make_quote(platform, kind):
    if kind == "sgx-v3":
        return "SGX", platform.quote_sgx(ENCLAVE, REPORT_DATA)
    version, body_type = {"tdx-v4": (4, 2), "tdx-v5-1.0": (5, 2), "tdx-v5-1.5": (5, 3)}[kind]
    return "TDX", platform.quote_tdx(DOMAIN, REPORT_DATA, version=version, body_type=body_type)


def verify(platform, quote, collateral, now=None):
    return dcap_qvl.verify_with_root_ca(quote, collateral, platform.root_der, int(now or time.time()))


@pytest.fixture(scope="module", params=["processor", "platform"])
def machine(request):
    return SimulatedPlatform.create(platform_ca=request.param == "platform")


@pytest.mark.parametrize("kind", KINDS)
def test_verifies_under_its_own_root_only(machine, kind):
    tee, quote = make_quote(machine, kind)
    collateral = machine.collateral(tee)
    assert verify(machine, quote, collateral).status == "UpToDate"
    with pytest.raises(ValueError, match="Verification failed"):
        dcap_qvl.verify(quote, collateral, int(time.time()))
    with pytest.raises(ValueError, match="Verification failed"):
        verify(SimulatedPlatform.create(), quote, collateral)


@pytest.mark.parametrize("kind", KINDS)
def test_any_change_to_the_report_is_noticed(platform, kind):
    tee, quote = make_quote(platform, kind)
    collateral = platform.collateral(tee)
    for offset in (20, 48 + 64, 48 + 200, 48 + 383):
        changed = bytearray(quote)
        changed[offset] ^= 1
        with pytest.raises(ValueError, match="Verification failed"):
            verify(platform, bytes(changed), collateral)


def test_sgx_report_carries_the_identity(platform):
    report = json.loads(verify(platform, platform.quote_sgx(ENCLAVE, REPORT_DATA), platform.collateral()).to_json())
    enclave = report["report"]["SgxEnclave"]
    assert enclave["mr_enclave"] == ENCLAVE.mr_enclave.hex()
    assert enclave["mr_signer"] == ENCLAVE.mr_signer.hex()
    assert (enclave["isv_prod_id"], enclave["isv_svn"]) == (3, 0x102)
    assert enclave["report_data"] == REPORT_DATA.hex()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_td_report_carries_the_identity(platform, kind):
    tee, quote = make_quote(platform, kind)
    report = json.loads(verify(platform, quote, platform.collateral(tee)).to_json())["report"]
    domain = report["TD15"]["base"] if "TD15" in report else report["TD10"]
    assert domain["mr_td"] == DOMAIN.mr_td.hex()
    assert [domain[f"rt_mr{index}"] for index in range(4)] == [rtmr.hex() for rtmr in DOMAIN.rtmrs]
    assert domain["report_data"] == REPORT_DATA.hex()


def test_a_debug_enclave_is_refused(platform):
    debug = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=1, debug=True)
    with pytest.raises(ValueError, match=r"[Dd]ebug"):
        verify(platform, platform.quote_sgx(debug, REPORT_DATA), platform.collateral())


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_report_data_has_64_bytes(platform, size):
    with pytest.raises(PlatformError, match=f"{size} bytes"):
        platform.quote_sgx(ENCLAVE, bytes(size))
    with pytest.raises(PlatformError, match=f"{size} bytes"):
        platform.quote_tdx(DOMAIN, bytes(size))


@pytest.mark.parametrize(
    "changes",
    [{"mr_enclave": bytes(31)}, {"mr_signer": bytes(33)}, {"product_id": 0x10000}, {"security_version": -1}],
)
def test_identities_of_the_wrong_size_are_refused(changes):
    with pytest.raises(EnclaveError):
        EnclaveIdentity(
            **{"mr_enclave": bytes(32), "mr_signer": bytes(32), "product_id": 0, "security_version": 0} | changes
        )
    with pytest.raises(EnclaveError):
        TdIdentity(mr_td=bytes(32))


def test_collateral_follows_its_knobs(platform):
    quote = platform.quote_sgx(ENCLAVE, REPORT_DATA)
    needed = platform.collateral(tcb_levels=[TcbLevel(status="SWHardeningNeeded", advisories=("INTEL-SA-00615",))])
    report = verify(platform, quote, needed)
    assert (report.status, report.advisory_ids) == ("SWHardeningNeeded", ["INTEL-SA-00615"])
    for refused in (
        platform.collateral(tcb_levels=[TcbLevel(status="Revoked")]),
        platform.collateral(tcb_levels=[TcbLevel(pce_svn=99)]),
        platform.collateral(qe_levels=[QeLevel(security_version=99)]),
        platform.collateral(revoked=[platform.pck_certificate]),
        platform.collateral(revoked=[platform.authority.tcb_signer]),
        platform.collateral(fmspc=bytes(6)),
        platform.collateral("TDX"),
    ):
        with pytest.raises(ValueError, match="Verification failed"):
            verify(platform, quote, refused)
    assert '"pceId":"0100"' in platform.collateral(pce_id=b"\x01\x00").tcb_info
    assert '"tcbEvaluationDataNumber":21' in platform.collateral(evaluation_number=21).qe_identity


def test_collateral_expires(platform):
    short = SimulatedPlatform.create(now=2_000_000_000, collateral_lifetime=dt.timedelta(hours=1))
    quote = short.quote_sgx(ENCLAVE, REPORT_DATA)
    collateral = short.collateral(now=2_000_000_000)
    assert verify(short, quote, collateral, 2_000_000_000).status == "UpToDate"
    for moment in (2_000_000_000 - 600, 2_000_000_000 + 3600):
        with pytest.raises(ValueError, match="Verification failed"):
            verify(short, quote, collateral, moment)


def test_every_name_says_simulation(machine):
    chain = x509.load_pem_x509_certificates(machine.quoting_enclave.pck_chain_pem)
    for certificate in (*chain, machine.authority.tcb_signer, *x509.load_pem_x509_certificates(machine.root_pem)):
        assert "SIMULATION" in certificate.subject.rfc4514_string()


def test_a_saved_platform_is_the_same_platform(machine, tmp_path):
    folder = tmp_path / "deep" / "platform"
    machine.save(folder)
    loaded = SimulatedPlatform.load(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["platform.json", "root.pem"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert (folder / "root.pem").read_bytes() == loaded.root_pem == machine.root_pem
    assert loaded.machine == machine.machine
    assert verify(machine, loaded.quote_sgx(ENCLAVE, REPORT_DATA), loaded.collateral()).status == "UpToDate"
    for policy in SealPolicy:
        assert loaded.sealing_key(ENCLAVE, policy) == machine.sealing_key(ENCLAVE, policy)


def test_a_platform_is_never_replaced(platform, tmp_path):
    platform.save(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ConfigurationError, match="already"):
        SimulatedPlatform.create().save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_missing_or_damaged_platform_is_an_error(platform, tmp_path):
    with pytest.raises(ConfigurationError) as missing:
        SimulatedPlatform.load(tmp_path)
    assert "cbs platform init" in missing.value.hint
    platform.save(tmp_path)
    file = tmp_path / "platform.json"
    document = json.loads(file.read_text())
    damaged = [
        "",
        "[]",
        json.dumps(document | {"format": 2}),
        json.dumps(document | {"fuse_key": "not hex"}),
        json.dumps(document | {"pck_key": document["pck"]}),
        json.dumps(document | {"machine": {"unknown": 1}}),
        json.dumps({name: value for name, value in document.items() if name != "attestation_key"}),
    ]
    for text in damaged:
        file.write_text(text)
        with pytest.raises(ConfigurationError):
            SimulatedPlatform.load(tmp_path)


def test_an_unwritable_place_is_an_error(platform, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot write"):
        platform.save(tmp_path / "file" / "platform")


def test_nothing_secret_is_printed(platform):
    shown = repr(platform) + repr(InProcessPlatform(platform, ENCLAVE))
    assert platform.fuse_key.reveal().hex() not in shown
    assert "PRIVATE" not in shown
    assert repr(platform.fuse_key.reveal()) not in shown


def test_sealing_keys_are_bound_to_what_was_measured(platform):
    def identity(**changes):
        same = {"mr_enclave": b"e" * 32, "mr_signer": b"s" * 32, "product_id": 3, "security_version": 1}
        return EnclaveIdentity(**same | changes)

    def key(policy, *, on=platform, **changes):
        return on.sealing_key(identity(**changes), policy)

    unique, product = SealPolicy.UNIQUE_KEY, SealPolicy.PRODUCT_KEY
    assert key(unique) == key(unique, security_version=2)
    assert key(product) == key(product, security_version=2) == key(product, mr_enclave=b"f" * 32)
    keys = [
        key(unique),
        key(unique, mr_enclave=b"f" * 32),
        key(unique, debug=True),
        key(unique, on=SimulatedPlatform.create()),
        key(product),
        key(product, mr_signer=b"t" * 32),
        key(product, product_id=4),
        key(product, debug=True),
    ]
    assert len(set(keys)) == len(keys)
    assert {len(one) for one in keys} == {32}
