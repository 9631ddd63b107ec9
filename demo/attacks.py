"""Thefts with no attestation behind them: two at the store's door, two with a changed program at the coordinator's.

Each really tries. An attack returns what it was told when it was refused; if it was not refused, that is in the outcome
too, and the story ends badly.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from uuid import uuid4

from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.attestation.simulation.launcher import launch
from confidential_bookstore.attestation.simulation.signing import SignedEnclave, sign_enclave
from confidential_bookstore.errors import EnclaveError, MeasurementMismatch
from demo.door import NO_CERTIFICATE, NOT_VERIFIED, Door
from demo.observation import observe
from demo.outcome import Outcome
from demo.system import System
from demo.workspace import PROJECT_ROOT, enclave_config
from services.bookthief.methods import Method, Refused
from services.bookthief.methods.no_certificate import NoCertificate
from services.bookthief.methods.self_signed import SelfSignedCertificate

_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.2
_LOG_SECONDS = 3.0

# The thief's one line: every receipt also goes to a file of the thief's.
_HONEST = "        return response.receipt\n"
_CHANGED = '        open("/tmp/loot", "ab").write(response.receipt.SerializeToString()); return response.receipt\n'


async def steal_at_the_door(system: System) -> list[Outcome]:
    """Without a certificate, and with a forged one; straight to the store, past any sidecar."""
    store, log = system.topology.address("bookstore"), system.workspace.logs / "bookstore.log"
    return [
        await _steal("a thief with no certificate", NoCertificate(store), log, NO_CERTIFICATE),
        await _steal("a thief with a self-signed certificate", SelfSignedCertificate(store), log, NOT_VERIFIED),
    ]


async def _steal(part: str, method: Method, log: Path, expected_reason: str) -> Outcome:
    """One of the thief's own methods, from outside of any enclave; the reason is in the store's log."""
    expected = "refused in the handshake (intended)"
    door = Door.watch(log)
    try:
        copies = await method.steal()
    except Refused as refused:
        told = str(refused)
    else:
        return Outcome(part, expected, f"got away with {copies} copies", good=False)
    deadline = time.monotonic() + _LOG_SECONDS
    while time.monotonic() < deadline:
        for reason in door.refusals():
            if reason.startswith(expected_reason):
                return Outcome(part, expected, f"refused: {told}; the store says {reason}", good=True)
        await asyncio.sleep(_LOOK_SECONDS)
    return Outcome(part, expected, f"failed otherwise: {told}", good=False)


async def change_one_line(system: System) -> list[Outcome]:
    """A bookbuyer with one changed line: under the builder's signature, and under the thief's own."""
    with tempfile.TemporaryDirectory(prefix="thief-") as folder:
        forged = await asyncio.to_thread(_forge, system, Path(folder))
    return [await _under_stale_signature(system, forged), await _under_own_signature(system, forged)]


def _forge(system: System, folder: Path) -> SignedEnclave:
    """The project copied, one line changed, and built and signed by the thief."""
    for name in ("confidential_bookstore", "services"):
        shutil.copytree(PROJECT_ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT_ROOT / "pyproject.toml", folder)
    buyer = folder / "services" / "bookbuyer" / "buyer.py"
    source = buyer.read_text()
    if source.count(_HONEST) != 1:
        raise EnclaveError("the thief does not find the line to change", got=source.count(_HONEST), expected=1)
    buyer.write_text(source.replace(_HONEST, _CHANGED))
    # To get as far as the coordinator, a marble of another signer has to name the coordinator's signer.
    config = enclave_config(folder, "bookbuyer")
    document = json.loads(config.read_text())
    document["coordinator"]["signerID"] = sigstruct.parse(system.enclaves["coordinator"].signature).mr_signer.hex()
    config.write_text(json.dumps(document))
    date = sigstruct.parse(system.enclaves["bookbuyer"].signature).date
    return sign_enclave(config, folder, sigstruct.new_signing_key(), system.platform.root_pem, date=date)


async def _under_stale_signature(system: System, forged: SignedEnclave) -> Outcome:
    part, expected = "a bookbuyer with one changed line, old signature", "will not launch (intended)"
    signature = system.enclaves["bookbuyer"].signature
    try:
        enclave = await asyncio.to_thread(launch, forged.image, signature, system.platform, env={})
    except MeasurementMismatch as error:
        return Outcome(part, expected, f"not launched: {error}", good=True)
    enclave.process.kill()
    await asyncio.to_thread(enclave.process.wait)
    return Outcome(part, expected, "launched", good=False)


async def _under_own_signature(system: System, forged: SignedEnclave) -> Outcome:
    account = ", behind bookbuyer's own sidecar" if system.mesh else ""
    part = f"the same, signed again by the thief, as bookbuyer{account}"
    expected = "activation refused (intended)"
    folder = system.topology.state / "forged-bookbuyer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    uuid = str(uuid4())
    (folder / "uuid").write_text(uuid)
    environment = system.topology.environment("bookbuyer") | {
        "EDG_MARBLE_UUID_FILE": str(folder / "uuid"),
        "CBS_DATA_DIR": str(folder),
        "CBS_LISTEN_ADDR": f"{system.topology.network}.66:14001",
        "CBS_STATUS_ADDR": f"{system.topology.network}.66:8080",
    }
    with (system.workspace.logs / "forged-bookbuyer.log").open("ab") as log:
        enclave = await asyncio.to_thread(
            launch,
            forged.image,
            forged.signature,
            system.platform,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        reason = await _denial(system, uuid)
    finally:
        enclave.process.kill()
        await asyncio.to_thread(enclave.process.wait)
    if reason is None:
        return Outcome(part, expected, "the coordinator turned nobody away", good=False)
    ours = sigstruct.parse(system.enclaves["bookbuyer"].signature).mr_signer.hex()
    theirs = enclave.identity.mr_signer.hex()
    judged = "SignerID" in reason and ours in reason and theirs in reason
    return Outcome(part, expected, f"activation refused: {reason}", good=judged)


async def _denial(system: System, uuid: str) -> str | None:
    """The coordinator's reason for turning away the marble with this UUID."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for denial in (await observe(system.topology)).denials():
            if denial["uuid"] == uuid:
                return str(denial["reason"])
        await asyncio.sleep(_LOOK_SECONDS)
    return None
