"""Launched enclaves: what they are, what enters them, and what they cannot do."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
import zipimport
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import dcap_qvl
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.attestation.platforms.simulated import (
    CounterRequest,
    QuoteRequest,
    SealingKeyRequest,
    decode_request,
    encode_request,
)
from confidential_bookstore.attestation.simulation import launcher, sigstruct
from confidential_bookstore.attestation.simulation.bootstrap import (
    NativeModules,
    allowed_environment,
    parse_environment,
)
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.measurement import Interpreter, measure
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import sign_enclave
from confidential_bookstore.errors import EnclaveError, MeasurementMismatch, SigstructInvalid

IDENTITY = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=1)
FIRST, SECOND = bytes(range(64)), bytes(64)


def claims(platform, quote):
    report = dcap_qvl.verify_with_root_ca(quote, platform.collateral(), platform.root_der, int(time.time()))
    return json.loads(report.to_json())["report"]["SgxEnclave"]


def ended(pid, within=10.0):
    """Whether the process ends in time; one that nobody has waited for yet has ended too."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def resigned(enclave, key, **changes):
    """Another SIGSTRUCT for the same image."""
    fields = {"product_id": 9, "security_version": 4, "date": sigstruct.parse(enclave.signature).date}
    return sigstruct.make(key, measure(enclave.image, Interpreter.current()), **fields | changes)


def test_quotes_carry_the_measured_identity(run, enclave, platform, signing_key):
    result = run("quotes", FIRST.hex(), SECOND.hex())
    name, *quotes = result.said
    assert name == "simulated"
    for quote, report_data in zip(quotes, (FIRST, SECOND), strict=True):
        found = claims(platform, bytes.fromhex(quote))
        assert found["mr_enclave"] == measure(enclave.image, Interpreter.current()).hex()
        assert found["mr_enclave"] == result.identity.mr_enclave.hex()
        assert found["mr_signer"] == sigstruct.mr_signer(signing_key.public_key()).hex()
        assert (found["isv_prod_id"], found["isv_svn"]) == (9, 4)
        assert found["report_data"] == report_data.hex()
        with pytest.raises(ValueError, match="Verification failed"):
            dcap_qvl.verify(bytes.fromhex(quote), platform.collateral(), int(time.time()))


def test_a_changed_image_does_not_start(enclave, platform):
    for offset in (0, len(enclave.image) // 2, len(enclave.image) - 1):
        changed = bytearray(enclave.image)
        changed[offset] ^= 1
        with pytest.raises(MeasurementMismatch) as mismatch:
            launcher.launch(bytes(changed), enclave.signature, platform, env={})
        assert mismatch.value.expected == sigstruct.parse(enclave.signature).mr_enclave.hex()
        assert mismatch.value.got != mismatch.value.expected


def test_an_edited_sigstruct_does_not_start(enclave, platform):
    edited = bytearray(enclave.signature)
    edited[1026] += 1  # ISVSVN
    with pytest.raises(SigstructInvalid):
        launcher.launch(enclave.image, bytes(edited), platform, env={})


def test_only_listed_variables_enter(run):
    host = {
        "FIXED": "from the host",
        "FROM_HOST": "väl=ue\n",
        "UNLISTED": "x",
        "LD_PRELOAD": "/nonexistent/evil.so",
        "LD_LIBRARY_PATH": "/nonexistent",
        "PYTHONPATH": "/nonexistent",
        "CBS_SIMULATED_CPU": "0",
        "CBS_HOST_ENVIRONMENT": "0",
    }
    result = run("environ", env=host)
    entered = result.said
    assert result.stderr == ""  # the dynamic loader would have complained about LD_PRELOAD
    assert int(entered.pop("CBS_SIMULATED_CPU")) > 2
    assert entered == {"FIXED": "measured", "FROM_HOST": "väl=ue\n", "WITH_DEFAULT": "default"}


def test_defaults_give_way_to_the_host(run):
    assert (
        run("environ", env={"WITH_DEFAULT": "host's", "ABSENT": ""}).said.items()
        >= {
            "WITH_DEFAULT": "host's",
            "ABSENT": "",
        }.items()
    )


def test_an_enclave_cannot_change_its_image(run):
    assert run("write_image").said == "EPERM"


def test_nothing_outside_the_image_can_be_imported(run, monkeypatch, tmp_path):
    (tmp_path / "planted.py").write_text("")
    monkeypatch.chdir(tmp_path)
    names = ["planted", "pytest", "typer", "pip", "coordinator", "confidential_bookstore.attestation.simulation"]
    assert run("importable", *names, "ensurepip", "idlelib", "unittest.test", "json", "cryptography.x509").said == [
        "json",
        "cryptography.x509",
    ]
    assert run("outside").said == []


def test_native_modules_of_wheels_come_from_the_image(run, new_project, tmp_path, signing_key, platform):
    config_path = new_project(tmp_path, extra="bookwarehouse")
    signed = sign_enclave(config_path, tmp_path, signing_key, b"", date=sigstruct.dt.date(2026, 1, 1))
    *files, dcap_version, cipher_version, outside = run("native", image=signed.image, signature=signed.signature).said
    assert all(file.startswith("/proc/self/fd/") for file in files)
    assert dcap_version == dcap_qvl.__version__
    assert cipher_version
    assert outside == []


def test_it_knows_its_measured_configuration(run, platform):
    assert run("measured").said == ["probe", 9, platform.root_pem.decode()]


def test_tracebacks_name_files_of_the_image(run):
    result = run("fail")
    assert result.code == 1
    assert 'File "services/probe/__main__.py", line' in result.stderr
    assert "RuntimeError: on purpose" in result.stderr


def test_its_exit_code_is_the_module_s(run):
    assert run("exit_with", "7").code == 7


def test_children_of_the_enclave_do_not_get_the_socket(run):
    assert run("grandchild").said is False


@pytest.mark.parametrize("packet", ["51" + 63 * "00", "4b00"])
def test_a_malformed_request_ends_the_conversation(run, packet):
    answer, then = run("malformed", packet).said
    assert answer == ""
    assert "simulated CPU" in then


def test_a_debug_enclave_has_debug_quotes(run, enclave, signing_key, platform):
    quotes = run("quotes", FIRST.hex(), signature=resigned(enclave, signing_key, debug=True)).said[1:]
    with pytest.raises(ValueError, match=r"[Dd]ebug"):
        claims(platform, bytes.fromhex(quotes[0]))


def test_sealing_keys(run, enclave, signing_key, platform, *, new_project, tmp_path):
    keys = run("sealing_keys").said
    assert run("sealing_keys").said == keys
    assert set(keys) == {policy.name for policy in SealPolicy}
    assert keys["UNIQUE_KEY"] != keys["PRODUCT_KEY"]

    updated = new_project(tmp_path, securityVersion=5)
    newer = sign_enclave(updated, tmp_path, signing_key, platform.root_pem, date=sigstruct.dt.date(2026, 1, 1))
    keys_of_newer = run("sealing_keys", image=newer.image, signature=newer.signature).said
    assert keys_of_newer["PRODUCT_KEY"] == keys["PRODUCT_KEY"]
    assert keys_of_newer["UNIQUE_KEY"] != keys["UNIQUE_KEY"]

    other_signer = run("sealing_keys", signature=resigned(enclave, sigstruct.new_signing_key())).said
    assert other_signer["PRODUCT_KEY"] != keys["PRODUCT_KEY"]
    other_machine = run("sealing_keys", on=SimulatedPlatform.create()).said
    assert not set(other_machine.values()) & set(keys.values())


def test_counters_belong_to_the_product(run, enclave, signing_key):
    machine = SimulatedPlatform.create()
    assert run("count", "5", on=machine).said == 0
    assert run("count", "4", on=machine, signature=resigned(enclave, signing_key, security_version=9)).said == 5
    assert run("count", "9", on=machine, signature=resigned(enclave, sigstruct.new_signing_key())).said == 0
    assert run("count", "9", on=SimulatedPlatform.create()).said == 0
    assert run("count", "0", on=machine).said == 5


LAUNCH_AND_WAIT = """
import pathlib, sys, time
from confidential_bookstore.attestation.simulation.launcher import launch
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
image, signature = (pathlib.Path(name).read_bytes() for name in sys.argv[1:])
launch(image, signature, SimulatedPlatform.create(), env={}, argv=["stay"])
time.sleep(60)
"""


def test_an_enclave_ends_with_its_launcher(enclave, tmp_path):
    path = enclave.write(tmp_path)
    arguments = [sys.executable, "-c", LAUNCH_AND_WAIT, path, path.with_suffix(".sig")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as parent:
        pid = json.loads(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    assert ended(pid)


def test_an_enclave_does_not_end_with_the_thread_that_asked_for_it(enclave, platform):
    launched = []

    def ask():
        arguments = {"env": {}, "argv": ["stay"], "stdout": subprocess.PIPE}
        launched.append(launcher.launch(enclave.image, enclave.signature, platform, **arguments))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    with launched[0].process as process:
        assert json.loads(process.stdout.readline()) == process.pid
        time.sleep(0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM


def test_a_process_that_cannot_start_is_an_error(enclave, platform):
    with pytest.raises(EnclaveError, match="cannot start"):
        launcher.launch(enclave.image, enclave.signature, platform, env={}, argv=["null\0character"])


def test_launching_leaves_no_descriptor_open(enclave, platform, run):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    run("environ")
    before = descriptors()
    run("environ")
    with pytest.raises(EnclaveError):
        launcher.launch(enclave.image, enclave.signature, platform, env={}, argv=["null\0character"])
    assert descriptors() <= before


# The CPU's side of the socket, without a process.


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_the_cpu_answers_well_formed_requests_only(packets):
    machine = cached_platform()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        for packet in packets:
            theirs.send(packet)
        theirs.shutdown(socket.SHUT_WR)
        launcher.serve(ours, machine, IDENTITY)  # returns: it never waits for more, and never raises
        for packet in packets:
            try:
                answer = theirs.recv(1 << 16)
            except ConnectionResetError:  # closed before it read everything
                answer = b""
            if decode_request(packet) is None:
                assert answer == b""
                break
            assert answer


_PLATFORMS = []


def cached_platform():
    if not _PLATFORMS:
        _PLATFORMS.append(SimulatedPlatform.create())
    return _PLATFORMS[0]


@given(st.binary(max_size=100))
def test_requests_have_one_encoding(packet):
    request = decode_request(packet)
    if request is not None:
        assert encode_request(request) == packet


@given(st.binary(min_size=64, max_size=64), st.sampled_from(SealPolicy), st.integers(0, 2**64 - 1))
def test_requests_survive_the_wire(report_data, policy, value):
    for request in (QuoteRequest(report_data), SealingKeyRequest(policy), CounterRequest(report_data[:32], value)):
        assert decode_request(encode_request(request)) == request


NAMES = st.text(st.characters(exclude_characters="=\0", exclude_categories=["Cs"]), min_size=1)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(NAMES, VALUES))
def test_an_environment_survives_the_wire(environment):
    block = b"".join(f"{name}={value}\0".encode() for name, value in environment.items())
    assert parse_environment(block) == environment


@given(st.binary())
def test_any_environment_block_is_read(block):
    assert all(name and "\0" not in name + value for name, value in parse_environment(block).items())


@given(st.dictionaries(NAMES, VALUES), st.lists(st.tuples(NAMES, VALUES | st.none(), st.booleans()), max_size=5))
def test_no_unlisted_variable_enters(host, listed):
    entries = [
        {"name": name, **({} if value is None else {"value": value}), "fromHost": from_host}
        for name, value, from_host in {name: (name, value, from_host) for name, value, from_host in listed}.values()
    ]
    environment = allowed_environment(entries, host)
    for entry in entries:
        expected = host.get(entry["name"], entry.get("value")) if entry["fromHost"] else entry.get("value")
        assert environment.pop(entry["name"], None) == expected
    assert environment == {}


def test_an_enclave_whose_launcher_is_gone_already_does_not_start():
    """The launcher ended before the kernel was told to end the enclave with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = (
        "from confidential_bookstore.attestation.simulation.bootstrap import end_with_launcher;"
        f"end_with_launcher({theirs.fileno()})"
    )
    with theirs:
        for gone in (False, True):
            if gone:
                ours.close()
            ended = subprocess.run(
                [sys.executable, "-c", program], pass_fds=[theirs.fileno()], capture_output=True, text=True, check=False
            )
            assert (ended.returncode, ended.stderr) == ((1, "the simulated CPU is gone\n") if gone else (0, ""))


def test_a_native_module_cannot_be_changed_once_it_is_in_memory(tmp_path):
    name = f"measured_module{EXTENSION_SUFFIXES[0]}"
    with zipfile.ZipFile(tmp_path / "image", "w") as archive:
        archive.writestr(name, b"\x7fELF")
    found = NativeModules(zipimport.zipimporter(str(tmp_path / "image")), [name]).find_spec("measured_module")
    assert found is not None
    assert found.origin is not None
    with Path(found.origin).open("rb+", buffering=0) as module:
        assert module.read() == b"\x7fELF"
        for change in (lambda: module.write(b"x"), lambda: module.truncate(0)):
            with pytest.raises(PermissionError):
                change()
    os.close(int(Path(found.origin).name))


def test_the_bootstrap_needs_only_the_standard_library():
    source = Path(launcher.__file__).with_name("bootstrap.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imported - {"__future__"} <= sys.stdlib_module_names
