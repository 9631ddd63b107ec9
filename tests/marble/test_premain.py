"""A program becomes a marble: real processes that exec real programs, on the fake coordinator and in a real enclave."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from fake_coordinator import BOOKSTORE, FakeCoordinator
from grpclib.const import Status
from marble_pki import MarblePki, pem_of

from cli.marble_run import given_trust
from confidential_bookstore.attestation.enclave import EnclaveConfig
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.launcher import launch as launch_enclave
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.signing import sign_enclave
from confidential_bookstore.errors import ConfigurationError, NoPlatform
from confidential_bookstore.marble.environment import MarbleSettings
from confidential_bookstore.marble.premain import setup as premain_setup
from confidential_bookstore.marble.premain.program import Program, find_program, fixed_digest, measured_program
from confidential_bookstore.marble.premain.setup import GivenTrust

REPOSITORY = Path(__file__).parents[2]
SHOW = """
import json, os, sys
print(json.dumps({
    "argv": sys.argv[1:], "environ": dict(os.environ), "name": open("/proc/self/cmdline").read().split("\\0")[0],
    "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)),
}))
"""


@pytest.fixture
async def coordinator(platform, verifier):
    fake = FakeCoordinator(platform, verifier, env={"GREETING": b"hello", "MARBLE_TTLS_CONFIG": b"{}"})
    fake.accept_any = True
    await fake.start()
    yield fake
    await fake.stop()


class Ran:
    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out.decode(), err.decode()

    @property
    def said(self) -> dict:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def run(coordinator, tmp_path):
    """`cbs marble run` in a process of its own."""
    root = tmp_path / "root.pem"
    root.write_bytes(pem_of(coordinator.pki.root))

    async def run(*command: str, options=("--without-quote",), root=root, **environ: str) -> Ran:
        environ = {
            "PATH": os.environ["PATH"],
            "EDG_MARBLE_TYPE": "bookstore",
            "EDG_MARBLE_COORDINATOR_ADDR": f"127.0.0.1:{coordinator.mesh_port}",
            "CBS_COORDINATOR_CLIENT_ADDR": f"127.0.0.1:{coordinator.client_port}",
            "CBS_DATA_DIR": str(tmp_path / "data"),
        } | environ
        trust = ["--coordinator-root", str(root)] if root else []
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "marble", "run", *trust, *options, "--", *command,
            env=environ, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        return Ran(await asyncio.wait_for(process.wait(), 60), *await process.communicate())

    return run


async def test_the_program_gets_environment_files_and_arguments(coordinator, run, tmp_path):
    coordinator.files = {str(tmp_path / "a/b/key"): b"secret", str(tmp_path / "a/c"): b"other"}
    ran = await run(sys.executable, "-c", SHOW, "one", "two", HOST="kept")
    said = ran.said
    assert said["argv"] == ["one", "two"]
    assert said["environ"].items() >= {"GREETING": "hello", "HOST": "kept", "MARBLE_TTLS_CONFIG": "{}"}.items()
    assert {name for name in said["environ"] if name.startswith("MARBLE_PREDEFINED_")} == {
        "MARBLE_PREDEFINED_ROOT_CA", "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA",
        "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN", "MARBLE_PREDEFINED_PRIVATE_KEY",
    }  # fmt: skip
    assert said["descriptors"] == [0, 1, 2]
    assert (tmp_path / "a/b/key").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "a/b/key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    assert "WARNING: --without-quote" in ran.err
    assert "premain.without_quote" in ran.err
    assert coordinator.activations[0].Quote == b""
    assert (tmp_path / "data/uuid").read_text() == coordinator.activations[0].UUID


async def test_argv_of_the_manifest_comes_first(coordinator, run):
    coordinator.argv = ("my-name", "-c", 'echo "$0 $GREETING $1"; grep SigIgn /proc/self/status', "zero", "one")
    ran = await run("/bin/sh", "ignored", "too")
    said, ignored = ran.out.splitlines()
    assert (ran.code, said) == (0, "zero hello one")
    # Python ignores SIGPIPE, the program does not; what the tests themselves were started with does not matter.
    assert not int(ignored.removeprefix("SigIgn:"), 16) >> (signal.SIGPIPE - 1) & 1


async def test_scripts_run_where_nothing_is_measured(run, tmp_path):
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho $GREETING $1\nexit 7\n")
    script.chmod(0o755)
    ran = await run("script", "x", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (ran.code, ran.out) == (7, "hello x\n")


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"command": ("no-such-program",)}, 3, "there is no such program"),
        ({"EDG_MARBLE_TYPE": ""}, 3, "environment variable not set: EDG_MARBLE_TYPE"),
        ({"root": None}, 3, "the coordinator could be anybody"),
        ({"options": ()}, 1, "no trusted execution environment"),
        ({"command": ()}, 3, "Missing argument"),
        ({"command": ("text",)}, 3, "/text: Exec format error"),
        (
            {"options": ("--without-quote", "--timeout", "1"), "CBS_COORDINATOR_CLIENT_ADDR": "127.0.0.1:1"},
            2,
            "not activated this marble in time",
        ),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else None,
)
async def test_clear_errors(run, tmp_path, wrong, code, words):
    text = tmp_path / "text"
    text.write_bytes(b"\x01 no program")
    text.chmod(0o755)
    command = tuple(str(text) if word == "text" else word for word in wrong.pop("command", ("/bin/true",)))
    ran = await run(*command, **wrong)
    assert ran.code == code
    assert words in ran.err
    assert ran.out == ""


async def test_refusals_are_final(coordinator, run):
    coordinator.refuse = (Status.PERMISSION_DENIED, "marble verification failed: unknown marble type requested")
    ran = await run("/bin/true")
    assert ran.code == 1
    assert "unknown marble type requested" in ran.err


async def test_another_coordinator_gets_nothing(coordinator, run, tmp_path):
    other = tmp_path / "other.pem"
    other.write_bytes(pem_of(MarblePki().root))
    ran = await run("/bin/true", root=other)
    assert ran.code == 1
    assert "another root certificate" in ran.err
    assert coordinator.activations == []


def test_without_quote_is_refused_where_there_is_a_platform(monkeypatch, platform):
    settings = MarbleSettings(marble_type="x")
    with pytest.raises(NoPlatform):
        GivenTrust(root=MarblePki().root).setup(settings, {})
    monkeypatch.setattr(premain_setup, "find_platform", lambda _: InProcessPlatform(platform, BOOKSTORE))
    with pytest.raises(ConfigurationError, match="refused where quotes can be had: got platform simulated"):
        GivenTrust(root=MarblePki().root, without_quote=True).setup(settings, {})


def test_a_policy_needs_collateral_and_a_root_to_verify_with(tmp_path, platform):
    policy, root = tmp_path / "policy.json", tmp_path / "root.pem"
    policy.write_text(json.dumps({"UniqueID": "ab" * 32}))
    root.write_bytes(platform.root_pem)
    trust = given_trust(None, policy, root, without_quote=True)
    assert trust.package == Package(unique_id="ab" * 32)
    with pytest.raises(ConfigurationError, match="no collateral"):
        trust.setup(MarbleSettings(marble_type="x"), {})
    setup = trust.setup(MarbleSettings(marble_type="x", collateral_dir=tmp_path), {})
    assert setup.trust.package == trust.package
    assert setup.platform.quote(bytes(64)) == b""


def config(*env: dict) -> EnclaveConfig:
    document = {"name": "x", "module": "x", "extra": "x", "productID": 1, "securityVersion": 1, "env": list(env)}
    return EnclaveConfig.parse(json.dumps(document))


def test_only_a_fixed_digest_counts():
    assert fixed_digest(config({"name": "CBS_PROGRAM_SHA256", "value": "AB"})) == "ab"
    for env in ([], [{"name": "CBS_PROGRAM_SHA256", "value": "ab", "fromHost": True}]):
        with pytest.raises(ConfigurationError, match="does not say which program"):
            fixed_digest(config(*env))


def test_measured_programs_are_sealed_and_scripts_are_not_measured(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF...")
    digest = hashlib.sha256(b"\x7fELF...").hexdigest()
    measured = measured_program("program", program, digest)
    assert isinstance(measured.file, int)
    with pytest.raises(PermissionError):
        os.pwrite(measured.file, b"x", 0)
    os.close(measured.file)
    with pytest.raises(ConfigurationError, match="not the program that the enclave was signed for"):
        measured_program("program", program, "00")
    program.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(ConfigurationError, match="interpreter is not measured"):
        measured_program("program", program, hashlib.sha256(b"#!/bin/sh\n").hexdigest())
    with pytest.raises(ConfigurationError, match="cannot read the program"):
        measured_program("program", tmp_path, "00")


def test_arguments():
    for program in (Program("p", Path("/p")), Program("p", 5)):
        assert program.arguments(["p"], ()) == ["p"]
        assert program.arguments(["p", "x"], ("q", "y")) == ["q", "y"]
    assert Program("p", Path("/p")).arguments(["p", "x"], ()) == ["p", "x"]
    with pytest.raises(ConfigurationError, match="not measured"):
        Program("p", 5).arguments(["p", "x"], ())


def test_programs_are_found_as_a_shell_does(tmp_path):
    assert find_program("sh", {"PATH": "/bin"}) == Path("/bin/sh")
    with pytest.raises(ConfigurationError, match="no such program: got sh"):
        find_program("sh", {"PATH": str(tmp_path)})


@pytest.fixture(scope="module")
def signing_key():
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


def enclave_json(folder: Path, key, *env: dict) -> Path:
    variables = [
        {"name": name, "fromHost": True}
        for name in ("EDG_MARBLE_TYPE", "EDG_MARBLE_COORDINATOR_ADDR", "CBS_COORDINATOR_CLIENT_ADDR", "CBS_PCCS_URL",
                     "CBS_DATA_DIR")
    ]  # fmt: skip
    document = {
        "name": "premain", "module": "confidential_bookstore.marble.premain", "extra": "premain", "productID": 3,
        "securityVersion": 1, "env": [*variables, *env],
        "coordinator": {"productID": 1, "securityVersion": 2, "signerID": (b"s" * 32).hex()},
    }  # fmt: skip
    folder.mkdir()
    (folder / "enclave.json").write_text(json.dumps(document))
    return folder / "enclave.json"


async def test_in_a_simulated_enclave_the_program_is_the_one_that_was_signed_for(
    platform, coordinator, tmp_path, signing_key
):
    program = tmp_path / "program"
    shutil.copy(Path("/bin/sh").resolve(), program)  # noqa: ASYNC240  # small
    fixed = {"name": "CBS_PROGRAM_SHA256", "value": hashlib.sha256(program.read_bytes()).hexdigest()}
    coordinator.argv = ("sh", "-c", "echo $GREETING; ls -l /proc/$$/fd; env | cut -d= -f1")
    coordinator.accept_any = False
    coordinator.package = Package(
        signer_id=sigstruct.mr_signer(signing_key.public_key()).hex(), product_id=3, security_version=1
    )
    pccs = await start_pccs(platform)

    async def run(folder: str, *env: dict, argv=(str(program),), digest="") -> Ran:
        signed = sign_enclave(
            enclave_json(tmp_path / folder, signing_key, *env), REPOSITORY, signing_key, platform.root_pem,
            date=dt.date(2026, 1, 1),
        )  # fmt: skip
        host = {
            "EDG_MARBLE_TYPE": "bookstore",
            "EDG_MARBLE_COORDINATOR_ADDR": f"127.0.0.1:{coordinator.mesh_port}",
            "CBS_COORDINATOR_CLIENT_ADDR": f"127.0.0.1:{coordinator.client_port}",
            "CBS_PCCS_URL": pccs.url,
            "CBS_DATA_DIR": str(tmp_path / "data"),
            "CBS_PROGRAM_SHA256": digest,
        }
        enclave = launch_enclave(
            signed.image, signed.signature, platform, env=host, argv=argv,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.to_thread(enclave.process.communicate, timeout=60)
        return Ran(enclave.process.returncode, out, err)

    try:
        ran = await run("measured", fixed, argv=("--", str(program)))
        assert ran.code == 0, ran.err
        first, *names = ran.out.splitlines()
        assert first == "hello"
        assert "socket:" not in ran.out
        assert "memfd:" not in ran.out
        assert "MARBLE_PREDEFINED_PRIVATE_KEY" in names
        assert "CBS_SIMULATED_CPU" not in names
        activations = len(coordinator.activations)

        unnamed = await run("unnamed", digest=fixed["value"])
        assert "does not say which program it runs" in unnamed.err

        with program.open("ab") as changed:
            changed.write(b"\0")
        refused = await run("changed", fixed)
        assert refused.code == unnamed.code == ConfigurationError.exit_code
        assert "not the program that the enclave was signed for" in refused.err
        assert len(coordinator.activations) == activations
    finally:
        await pccs.close()
