"""The one mode in which marbles are admitted without a quote: only outside an enclave, and loud about it."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys

import pytest
from coordinators import certificates, client_of, manifest, page, set_manifest
from cryptography.x509 import ObjectIdentifier
from independent_marble import IndependentMarble

import coordinator.__main__ as program
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.errors import ConfigurationError
from coordinator.app import WITHOUT_QUOTES
from coordinator.sealing.directory import DATA_FILE, KEY_FILE

COMMENT = ObjectIdentifier("2.16.840.1.113730.1.13")
WITHOUT = {"platform": None, "verifier": None}


def quoteless(marble_type: str = "bookstore") -> IndependentMarble:
    """What MarbleRun's premain sends where it can get no quote."""
    return IndependentMarble(marble_type, lambda _: b"")


def comment_of(certificate) -> str:
    """An IA5String in DER, of less than 256 characters."""
    content = certificate.extensions.get_extension_for_oid(COMMENT).value.value
    return content[3 if content[1] == 0x81 else 2 :].decode()


async def test_a_marble_without_a_quote_is_admitted_and_labelled(start, settings):
    async with start(settings_={"interoperability": True}, **WITHOUT) as running:
        await set_manifest(running, manifest())
        parameters = await quoteless().activate(running.mesh_port)
        leaf, intermediate = certificates(parameters.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])
        (root,) = certificates(parameters.Env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"])
        assert {comment_of(each) for each in (leaf, intermediate, root)} == {WITHOUT_QUOTES}
        async with client_of(running) as client:
            status = await client.data("/api/v2/status")
            assert (await client.data("/api/v2/quote"))["quote"] is None
        assert status["attestation"]["marblesWithoutQuote"] is True
        code, text = await page(running.status_port, "/readyz")
        assert (code, "without a quote" in text) == (200, True)
    # As a MarbleRun coordinator without an enclave keeps it.
    assert len((settings.seal_directory / KEY_FILE).read_bytes()) == 32


async def test_packages_and_limits_still_count(start):
    async with start(**WITHOUT) as running:
        await set_manifest(running, manifest())
        for _ in range(2):
            await quoteless("limited").activate(running.mesh_port)
        with pytest.raises(Exception, match="reached max activations count"):
            await quoteless("limited").activate(running.mesh_port)
        with pytest.raises(Exception, match="unknown marble type"):
            await quoteless("other").activate(running.mesh_port)


async def test_it_is_in_the_log(start, capfd):
    async with start(**WITHOUT) as running:
        await set_manifest(running, manifest())
        await quoteless().activate(running.mesh_port)
    text = "".join(capfd.readouterr())
    assert WITHOUT_QUOTES in text
    assert "marble activated WITHOUT A QUOTE" in text


async def test_otherwise_no_quote_is_no_entrance(coordinator):
    with pytest.raises(Exception, match="invalid quote"):
        await quoteless().activate(coordinator.mesh_port)


async def test_certificates_say_under_which_root_marbles_are_attested(coordinator, bookstore, verifier):
    parameters = await bookstore().activate(coordinator.mesh_port)
    leaf, _ = certificates(parameters.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])
    assert comment_of(leaf) == (f"marbles attested under simulated root {verifier.root.key_id}")


def test_a_machine_that_can_attest_is_not_used_without(monkeypatch, machine, capsys):
    from coordinators import COORDINATOR

    monkeypatch.setattr(program, "find_platform", lambda: InProcessPlatform(machine, COORDINATOR))
    monkeypatch.setattr(program, "configure_logging", lambda *_, **__: None)
    monkeypatch.setenv("OE_SIMULATION", "1")
    assert program.main() == ConfigurationError.exit_code
    assert "OE_SIMULATION=1 stands against a platform that can attest" in capsys.readouterr().err


def test_a_program_outside_an_enclave_serves_if_it_is_told_so(tmp_path):
    """The whole program, as an operator starts it; and it does not start if it is not told so."""
    environ = {
        "PATH": os.environ["PATH"],
        "EDG_COORDINATOR_MESH_ADDR": "127.0.0.1:0",
        "EDG_COORDINATOR_CLIENT_ADDR": "127.0.0.1:0",
        "EDG_COORDINATOR_SEAL_DIR": str(tmp_path / "sealed"),
        "EDG_STARTUP_MANIFEST": str(tmp_path / "manifest.json"),
        "EDG_LOG_FORMAT": "json",
    }
    (tmp_path / "manifest.json").write_bytes(manifest())
    command = [sys.executable, "-m", "coordinator"]
    refused = subprocess.run(
        command,
        env={**environ, "CBS_PCCS_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode == ConfigurationError.exit_code
    assert "does not run from an enclave image" in refused.stderr
    with subprocess.Popen(command, env={**environ, "OE_SIMULATION": "1"}, stderr=subprocess.PIPE, text=True) as running:
        try:
            lines = []
            for line in running.stderr:
                lines.append(json.loads(line))
                if lines[-1]["event"] == WITHOUT_QUOTES:
                    break
        finally:
            running.send_signal(signal.SIGTERM)
        assert "stopping" in running.stderr.read()
    assert running.returncode == 0
    assert lines[-2]["state"] == "ACCEPTING_MARBLES"
    assert lines[-1]["level"] == "warning"
    key = (tmp_path / "sealed" / KEY_FILE).read_bytes()
    assert base64.b64encode(key) not in (tmp_path / "sealed" / DATA_FILE).read_bytes()
