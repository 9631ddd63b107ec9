from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from coordinators import COORDINATOR, client_of, manifest, set_manifest
from cryptography.hazmat.primitives.serialization import Encoding
from test_marble_api import GatedVerifier

import coordinator
from confidential_bookstore.attestation.enclave import EnclaveConfig, MeasuredConfig
from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.errors import ConfigurationError, SealedStateError, StateError
from confidential_bookstore.secret import Secret
from coordinator.__main__ import main
from coordinator.app import make_verifier, stop_signal
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import LiveDeployment, load_or_begin
from coordinator.pki.authority import Authority
from coordinator.sealing.directory import DirectoryStore
from coordinator.sealing.keys import PlatformKeys
from coordinator.sealing.sealed_state import SealedState

NOW = dt.datetime.now(dt.UTC)


def new_authority() -> Authority:
    return Authority.create(dns_names=["localhost"], now=NOW)


async def test_sigterm_lets_a_running_activation_finish(start, bookstore, verifier):
    marble = bookstore()
    gated = GatedVerifier(verifier, marble.report_data)
    async with start(verifier=gated) as running:
        await set_manifest(running, manifest())
        activation = asyncio.create_task(marble.activate(running.mesh_port))
        await asyncio.wait_for(gated.reached.wait(), 5)
        serving = asyncio.create_task(running.serve(stop_signal()))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 5)
        asyncio.get_running_loop().call_later(0.2, gated.go_on.set)
    assert (await activation).Env["GREETING"] == b"hello"


async def test_an_address_in_use_leaves_nothing_open(start, tmp_path):
    async with start() as running:
        taken = ("127.0.0.1", running.client_port)
        with pytest.raises(ConfigurationError, match="cannot listen"):
            async with start({"client_address": taken, "status_address": None, "seal_directory": tmp_path / "other"}):
                pass
        async with client_of(running) as client:
            assert (await client.data("/api/v2/status"))["code"] == 2


async def test_two_coordinators_never_share_a_directory(start, settings):
    async with start():
        with pytest.raises(SealedStateError, match="in use") as refused:
            async with start():
                pass
        assert str(settings.seal_directory) in str(refused.value)
    async with start() as running, client_of(running) as client:
        assert (await client.data("/api/v2/status"))["code"] == 2


async def test_a_directory_that_cannot_be_made_is_named(start, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SealedStateError, match="cannot be used") as refused:
        async with start({"seal_directory": tmp_path / "file" / "below"}):
            pass
    assert str(tmp_path) in str(refused.value)


async def test_ports_are_known_while_it_runs(start):
    running = start()
    with pytest.raises(RuntimeError, match="not running"):
        _ = running.mesh_port
    async with running:
        assert running.mesh_port > 0


def sealed_at(tmp_path) -> SealedState:
    keys = PlatformKeys({policy: Secret(bytes(32)) for policy in SealPolicy})
    return SealedState(DirectoryStore(tmp_path), keys, None)


def begun(sealed: SealedState) -> Deployment:
    deployment, recovering = load_or_begin(sealed, new_authority)
    assert recovering is None
    return deployment


async def test_who_leaves_in_the_middle_of_a_change_does_not_undo_it(tmp_path):
    sealed = sealed_at(tmp_path)
    live = LiveDeployment(begun(sealed), sealed)
    inside, go_on = threading.Event(), threading.Event()

    def slowly(deployment: Deployment) -> tuple[Deployment, dict[str, bytes]]:
        inside.set()
        go_on.wait(10)
        return deployment.accept_manifest(manifest(), NOW)

    change = asyncio.create_task(live.change(slowly))
    await asyncio.to_thread(inside.wait, 5)
    change.cancel()
    with pytest.raises(asyncio.CancelledError):
        await change
    go_on.set()
    await live.settle()
    assert live.current.manifest is not None
    assert begun(sealed_at(tmp_path)).manifest == live.current.manifest


async def test_a_change_that_fails_changes_nothing(tmp_path):
    sealed = sealed_at(tmp_path)
    live = LiveDeployment(begun(sealed), sealed)
    await live.change(lambda deployment: deployment.accept_manifest(manifest(), NOW))
    before = live.current
    with pytest.raises(StateError):
        await live.change(lambda deployment: deployment.accept_manifest(manifest(), NOW))
    assert live.current is before


def test_the_root_is_sealed_from_the_beginning(tmp_path):
    first = begun(sealed_at(tmp_path))
    again = begun(sealed_at(tmp_path))
    der = Encoding.DER
    assert again.authority.root.public_bytes(der) == first.authority.root.public_bytes(der)
    assert again.root_secret == first.root_secret


@pytest.mark.parametrize("record", ["rootSecret", "privateKey:coordinatorRootKey", "manifest", "secret:shared"])
def test_a_damaged_record_is_named(record):
    deployment, _ = Deployment.begin(new_authority(), Secret(bytes(32))).accept_manifest(manifest(), NOW)
    with pytest.raises(SealedStateError):
        Deployment.restore({**deployment.state.records, record: b""}, deployment.data_key)


def test_a_state_without_a_root_secret_derives_from_the_root_key():
    """As states of old MarbleRun coordinators do."""
    deployment = Deployment.begin(new_authority(), Secret(bytes(32)))
    records = {key: value for key, value in deployment.state.records.items() if key != "rootSecret"}
    scalar = deployment.authority.root_key.private_numbers().private_value
    restored = Deployment.restore(records, deployment.data_key)
    assert restored.root_secret.reveal() == scalar.to_bytes(48, "big")


def test_the_verifier_trusts_what_was_measured(settings, machine):
    config = EnclaveConfig.parse(Path(coordinator.__file__).with_name("enclave.json").read_bytes())
    settings = replace(settings, pccs_url="http://127.0.0.1:1")
    simulated = make_verifier(settings, MeasuredConfig(config=config, trust_root_pem=machine.root_pem))
    assert simulated.root.certificate_der == machine.root_der
    assert not make_verifier(settings, MeasuredConfig(config=config, trust_root_pem=b"")).root.simulated


def test_a_wrong_setting_ends_the_program_with_its_name(monkeypatch, capsys):
    monkeypatch.setenv("CBS_PCCS_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("EDG_COORDINATOR_MESH_ADDR", "nowhere")
    assert main() == 3
    assert "EDG_COORDINATOR_MESH_ADDR is not an address: got 'nowhere'" in capsys.readouterr().err


async def test_another_version_of_the_product_reads_the_state(start, machine):
    """Sealed to the product, so an update keeps the deployment; another product has another key and needs recovery."""
    newer = type(COORDINATOR)(mr_enclave=b"D" * 32, mr_signer=COORDINATOR.mr_signer, product_id=1, security_version=2)
    other = type(COORDINATOR)(mr_enclave=b"C" * 32, mr_signer=COORDINATOR.mr_signer, product_id=2, security_version=1)
    async with start() as running:
        await set_manifest(running, manifest())
    async with start(platform=InProcessPlatform(machine, newer)) as running, client_of(running) as client:
        assert (await client.data("/api/v2/status"))["code"] == 3
    async with start(platform=InProcessPlatform(machine, other)) as running, client_of(running) as client:
        assert (await client.data("/api/v2/status"))["code"] == 1


async def test_a_startup_manifest_is_set_once_and_may_stay(start, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_bytes(manifest())
    for _ in range(2):
        async with start({"startup_manifest": path}) as running, client_of(running) as client:
            assert (await client.data("/api/v2/status"))["code"] == 3
            assert len((await client.data("/api/v2/update"))["updateLog"]) == 1
    path.write_bytes(manifest() + b" ")
    with pytest.raises(StateError):
        async with start({"startup_manifest": path}):
            pass
    with pytest.raises(ConfigurationError, match="EDG_STARTUP_MANIFEST cannot be read"):
        async with start({"startup_manifest": tmp_path / "nothing"}):
            pass
