"""`cbs enclave` and `cbs platform`, as processes and as functions."""

import asyncio
import io
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import dcap_qvl
import pytest
import typer
from typer.testing import CliRunner

from cli import enclave_info, enclave_run, enclave_sign, platform_init, platform_serve
from cli.output import OutputFormat, show
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import BookstoreError, ConfigurationError, ImageInvalid

REPOSITORY = Path(__file__).parents[2]

app = typer.Typer()
for name, module in {
    "sign": enclave_sign,
    "run": enclave_run,
    "info": enclave_info,
    "init": platform_init,
    "serve": platform_serve,
}.items():
    app.command(name)(module.command)


def cbs(*arguments):
    """Run a command; errors of the tree come out as they are."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, BookstoreError):
        raise result.exception
    return result


def start(*arguments):
    """The same as a process of its own."""
    code = "from test_enclave_commands import app; app()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "UNLISTED": "x", "FROM_HOST": "outer"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def platform_folder(tmp_path_factory, platform):
    folder = tmp_path_factory.mktemp("platform")
    platform.save(folder)
    return folder


@pytest.fixture(scope="module")
def signed(tmp_path_factory, enclave):
    """The path of the signed probe's image."""
    return enclave.write(tmp_path_factory.mktemp("signed"))


def test_sign_then_info(config_path, platform_folder, tmp_path, enclave):
    key, out = tmp_path / "key.pem", tmp_path / "out"
    options = ["--key", key, "--trust-root", platform_folder / "root.pem", "--out", out, "--output", "json"]
    with pytest.raises(ConfigurationError) as missing:
        cbs("sign", config_path, *options)
    assert "--new-key" in missing.value.hint
    made = json.loads(cbs("sign", config_path, *options, "--new-key").stdout)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert sorted(path.name for path in out.iterdir()) == ["probe.enclave", "probe.sig"]
    assert (out / "probe.enclave").read_bytes() == enclave.image
    assert (made["ProductID"], made["SecurityVersion"], made["Debug"]) == (9, 4, False)
    again = json.loads(cbs("sign", config_path, *options).stdout)
    assert again == made

    described = json.loads(cbs("info", out / "probe.enclave", "--output", "json").stdout)
    assert described.items() >= {name: made[name] for name in ("UniqueID", "SignerID", "ProductID")}.items()
    assert (described["Name"], described["BelongTogether"]) == ("probe", True)


def test_an_existing_key_is_never_replaced(config_path, tmp_path):
    key = tmp_path / "key.pem"
    key.write_text("precious")
    with pytest.raises(ConfigurationError, match="already"):
        cbs("sign", config_path, "--key", key, "--new-key", "--out", tmp_path)
    assert key.read_text() == "precious"


def test_without_a_trust_root_it_is_intel_s(config_path, tmp_path, signing_key, platform_folder):
    made = enclave_sign.create_signing_key(tmp_path / "key.pem")
    assert made is None
    cbs("sign", config_path, "--key", tmp_path / "key.pem", "--out", tmp_path)
    result = start("run", tmp_path / "probe.enclave", "--platform", platform_folder, "--", "measured")
    stdout, stderr = result.communicate(timeout=60)
    assert json.loads(stdout) == ["probe", 9, ""], stderr


def test_info_says_if_they_do_not_belong_together(signed, tmp_path, new_project, platform, signing_key):
    other = new_project(tmp_path, securityVersion=5)
    cbs("sign", other, "--key", write_key(tmp_path, signing_key), "--out", tmp_path)
    (tmp_path / "probe.sig").write_bytes(signed.with_suffix(".sig").read_bytes())
    result = cbs("info", tmp_path / "probe.enclave")
    assert result.exit_code == 1
    assert "BelongTogether   no" in result.stdout


def write_key(folder, key):
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = folder / "signing-key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_info_of_something_else(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        cbs("info", tmp_path / "missing.enclave")
    (tmp_path / "x.enclave").write_text("x")
    (tmp_path / "x.sig").write_text("x")
    with pytest.raises(ImageInvalid):
        cbs("info", tmp_path / "x.enclave")


def test_run_passes_the_environment_to_the_filter(signed, platform_folder):
    process = start("run", signed, "--platform", platform_folder, "--env", "WITH_DEFAULT=given", "--", "environ")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    entered = json.loads(stdout)
    del entered["CBS_SIMULATED_CPU"]
    assert entered == {"FIXED": "measured", "FROM_HOST": "outer", "WITH_DEFAULT": "given"}


def test_run_exits_with_the_enclave_s_code(signed, platform_folder):
    process = start("run", signed, "--platform", platform_folder, "--", "exit_with", "7")
    process.communicate(timeout=60)
    assert process.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_passes_signals_on(signed, platform_folder, number):
    with start("run", signed, "--platform", platform_folder, "--", "report_signals") as process:
        assert json.loads(process.stdout.readline()) == "ready"
        process.send_signal(number)
        stdout, _ = process.communicate(timeout=20)
    assert json.loads(stdout) == number.name
    assert process.returncode == 0


def test_run_reports_the_signal_that_ended_it(signed, platform_folder):
    with start("run", signed, "--platform", platform_folder, "--", "stay") as process:
        os.kill(json.loads(process.stdout.readline()), signal.SIGKILL)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL


def test_run_without_a_platform(signed, tmp_path):
    with pytest.raises(ConfigurationError, match="no simulated platform"):
        cbs("run", signed, "--platform", tmp_path)


@pytest.mark.parametrize("setting", ["NAME", "=value", ""])
def test_malformed_settings(setting):
    with pytest.raises(ConfigurationError, match="--env"):
        enclave_run.parse_variables([setting])
    assert enclave_run.parse_variables(["A=b=c", "D="]) == {"A": "b=c", "D": ""}


def test_platform_init(tmp_path):
    folder = tmp_path / "platform"
    made = json.loads(cbs("init", folder, "--output", "json").stdout)
    assert Path(made["Root"]).read_bytes() == SimulatedPlatform.load(folder).root_pem
    assert len(bytes.fromhex(made["RootKeyID"])) == 48
    with pytest.raises(ConfigurationError, match="already"):
        cbs("init", folder)


def test_platform_serve(platform_folder, platform):
    quote = platform.quote_sgx(
        EnclaveIdentity(mr_enclave=bytes(32), mr_signer=bytes(32), product_id=1, security_version=1), bytes(64)
    )
    with start("serve", platform_folder, "--listen", "127.0.0.1:0", "--output", "json") as process:
        url = json.loads(process.stdout.readline())["PCCS"]

        async def fetch():
            return await dcap_qvl.get_collateral(url, quote)

        assert json.loads(asyncio.run(fetch()).tcb_info)["fmspc"] == platform.machine.fmspc.hex().upper()
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("text", "address"), [("127.0.0.1:8081", ("127.0.0.1", 8081)), ("[::1]:0", ("::1", 0)), ("a.b:1", ("a.b", 1))]
)
def test_addresses(text, address):
    assert platform_serve.parse_address(text) == address


@pytest.mark.parametrize("text", ["", "8081", ":8081", "host:", "host:x", "host:65536", "host:-1", "host:²"])
def test_malformed_addresses(text):
    with pytest.raises(ConfigurationError, match="--listen"):
        platform_serve.parse_address(text)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_output_forms(monkeypatch):
    values = {"Name": "bookstore", "Debug": False, "ProductID": 3}
    text, as_json, terminal = io.StringIO(), io.StringIO(), Terminal()
    show(values, OutputFormat.TEXT, text)
    show(values, OutputFormat.JSON, as_json)
    monkeypatch.setenv("TERM", "xterm-256color")
    show(values, OutputFormat.TEXT, terminal)
    assert text.getvalue() == "Name       bookstore\nDebug      no\nProductID  3\n"
    assert json.loads(as_json.getvalue()) == values
    assert "\x1b[" in terminal.getvalue()
    assert "bookstore" in terminal.getvalue()
