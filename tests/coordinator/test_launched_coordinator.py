"""The coordinator as it really runs: its image, launched as an enclave, with a PCCS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import signal
from pathlib import Path

import pytest
from coordinators import Client, certificates, client_at, manifest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

import coordinator
from confidential_bookstore.attestation.binding import coordinator_report_data
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.simulation.launcher import LaunchedEnclave, launch
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.signing import SignedEnclave, find_project_root, sign_enclave


@pytest.fixture(scope="module")
def signed(machine) -> SignedEnclave:
    config = Path(coordinator.__file__).with_name("enclave.json")
    key = rsa.generate_private_key(public_exponent=3, key_size=3072)
    return sign_enclave(config, find_project_root(config), key, machine.root_pem, date=dt.date(2026, 1, 1))


@contextlib.asynccontextmanager
async def launched(signed: SignedEnclave, machine, tmp_path: Path, **env: str):
    """The enclave, what it reports when it serves, and its log."""
    pccs = await start_pccs(machine)
    given = {
        "EDG_COORDINATOR_MESH_ADDR": "127.0.0.1:0",
        "EDG_COORDINATOR_CLIENT_ADDR": "127.0.0.1:0",
        "EDG_COORDINATOR_SEAL_DIR": str(tmp_path / "sealed"),
        "EDG_LOG_FORMAT": "json",
        "CBS_PCCS_URL": pccs.url,
    }
    log = tmp_path / "log"
    try:
        with log.open("wb") as stream:
            enclave = launch(signed.image, signed.signature, machine, env=given | env, stdout=stream, stderr=stream)
        try:
            yield enclave, await serving(enclave, log)
        finally:
            enclave.process.kill()
            enclave.process.wait()
    finally:
        await pccs.close()


async def serving(enclave: LaunchedEnclave, log: Path) -> dict:
    """The event that says on which ports it serves."""
    while (event := reported(log)) is None:
        assert enclave.process.poll() is None, log
        await asyncio.sleep(0.05)
    return event


def reported(log: Path) -> dict | None:
    events = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    return next((event for event in events if event["event"] == "coordinator is serving"), None)


async def test_it_attests_activates_seals_and_stops(signed, machine, tmp_path, bookstore, verifier):
    async with launched(signed, machine, tmp_path) as (enclave, event):
        assert event["simulated"] is True
        async with client_at(event["client_port"]) as client:
            root = await attested_root(client, verifier, enclave)
            assert (await client.set_manifest(manifest()))[0] == 200
        parameters = await bookstore().activate(event["mesh_port"])
        assert parameters.Env["GREETING"] == b"hello"
        enclave.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(enclave.process.wait, 20) == 0
    async with launched(signed, machine, tmp_path) as (enclave, event), client_at(event["client_port"]) as client:
        assert event["state"] == "ACCEPTING_MARBLES"
        assert await attested_root(client, verifier, enclave) == root


async def attested_root(client: Client, verifier, enclave: LaunchedEnclave) -> bytes:
    data = await client.data("/api/v2/quote")
    root = certificates(data["cert"].encode())[1].public_bytes(Encoding.DER)
    claims = await verifier.verify(base64.b64decode(data["quote"]), coordinator_report_data(root))
    Package(
        unique_id=enclave.identity.mr_enclave.hex(),
        signer_id=enclave.identity.mr_signer.hex(),
        product_id=1,
        security_version=1,
    ).check(claims)
    return root


async def test_the_host_cannot_choose_the_trust_domain(signed, machine, tmp_path, bookstore):
    async with launched(signed, machine, tmp_path, CBS_TRUST_DOMAIN="evil.example") as (_, event):
        async with client_at(event["client_port"]) as client:
            assert (await client.set_manifest(manifest()))[0] == 200
        env = (await bookstore().activate(event["mesh_port"])).Env
    leaf = certificates(env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])[0]
    assert b"spiffe://marbles.internal/marble/bookstore" in leaf.public_bytes(Encoding.DER)
