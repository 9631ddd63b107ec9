"""A coordinator to be measured: its image, launched as a simulated enclave, with a PCCS and a manifest."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.launcher import LaunchedEnclave, launch
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave, sign_enclave
from demo.workspace import PROJECT_ROOT, enclave_config

MARBLE = EnclaveIdentity(mr_enclave=b"S" * 32, mr_signer=b"B" * 32, product_id=3, security_version=2)
_START_SECONDS = 30.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class MeasuredCoordinator:
    """A coordinator that runs, and what it costs."""

    pid: int
    mesh_port: int
    client_port: int

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far, to a hundredth of a second: proc(5)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND

    def resident_mb(self) -> float:
        """VmRSS of proc(5), in 10^6 bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        return round(kibibytes * 1024 / 1e6, 1)


def sign_coordinator(machine: SimulatedPlatform) -> SignedEnclave:
    """Its enclave, built from the sources as they are now."""
    config = enclave_config(PROJECT_ROOT, "coordinator")
    today = dt.datetime.now(dt.UTC).date()
    return sign_enclave(config, PROJECT_ROOT, sigstruct.new_signing_key(), machine.root_pem, date=today)


@contextlib.asynccontextmanager
async def launched_coordinator(
    signed: SignedEnclave, machine: SimulatedPlatform, folder: Path, manifest: Mapping[str, Any]
) -> AsyncIterator[MeasuredCoordinator]:
    """One on free ports of the loopback that accepts marbles; it ends with the block."""
    pccs = await start_pccs(machine)
    env = {
        "EDG_COORDINATOR_MESH_ADDR": "127.0.0.1:0",
        "EDG_COORDINATOR_CLIENT_ADDR": "127.0.0.1:0",
        "EDG_COORDINATOR_SEAL_DIR": str(folder / "sealed"),
        "EDG_LOG_FORMAT": "json",
        "CBS_PCCS_URL": pccs.url,
    }
    try:
        enclave = await asyncio.to_thread(_launch, signed, machine, folder, env)
        try:
            ports = await asyncio.to_thread(_ports, folder / "log")
            await _set_manifest(ports["client_port"], manifest)
            yield MeasuredCoordinator(enclave.process.pid, ports["mesh_port"], ports["client_port"])
        finally:
            enclave.process.kill()
            enclave.process.wait()
    finally:
        await pccs.close()


def _launch(signed: SignedEnclave, machine: SimulatedPlatform, folder: Path, env: Mapping[str, str]) -> LaunchedEnclave:
    folder.mkdir()
    with (folder / "log").open("wb") as log:
        return launch(signed.image, signed.signature, machine, env=env, stdout=log, stderr=log)


def _ports(log: Path) -> dict[str, int]:
    """Of the event which says that it serves."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if '"coordinator is serving"' in line and line.endswith("}"):
                ports: dict[str, int] = json.loads(line)
                return ports
        time.sleep(0.05)
    raise TimeoutError(f"the coordinator does not start: {log.read_text()}")


async def _set_manifest(client_port: int, manifest: Mapping[str, Any]) -> None:
    body = {"manifest": base64.b64encode(json.dumps(manifest).encode()).decode()}
    url = f"https://127.0.0.1:{client_port}/api/v2/manifest"
    async with aiohttp.ClientSession() as http, http.post(url, json=body, ssl=False) as answer:
        if answer.status != 200:
            raise RuntimeError(await answer.text())
