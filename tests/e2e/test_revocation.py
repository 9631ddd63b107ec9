"""An update takes a marble's right away while all work: it is out within ten seconds, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import re
import time
from collections import Counter
from pathlib import Path

import grpc
import pytest
from auditor import AUDITOR, bought, with_auditor
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import BookstoreServiceStub
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.marble import Marble, MarbleSettings
from confidential_bookstore.marble.coordinator_trust import verify_coordinator
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.user import User
from confidential_bookstore.secret import Secret
from demo.observation import observe
from demo.system import System
from demo.topology import MESH_PORT

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(180)]

LIST_BOOKS = "/confidential_bookstore.api.bookstore.v1.BookstoreService/ListBooks"
REASON = "revoked-by-manifest-update"
WITHIN = 10.0  # seconds
ENTITLED = {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]}


def new_user(name: str) -> User:
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return User(certificate, Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())))


def with_owner(manifest: bytes, owner: User) -> bytes:
    """The demo's manifest with a user who may update it, and a second caller of the bookstore: the auditor."""
    document = json.loads(with_auditor(manifest))
    versions = {"ResourceType": "Packages", "ResourceNames": ["bookbuyer"], "Actions": ["UpdateSecurityVersion"]}
    document["Roles"] = {"owner": ENTITLED, "versions": versions}
    document["Users"] = {"owner": {"Certificate": owner.certificate_pem.decode(), "Roles": ["owner", "versions"]}}
    rules = document["Marbles"]["bookstore"]["Parameters"]["Env"]["MARBLE_ACCESS_RULES"]
    lists = {"name": "auditor-lists", "sources": ["auditor"], "matches": [{"path": re.escape(LIST_BOOKS)}]}
    allowed = [*json.loads(rules["Data"]), lists]
    rules["Data"] = json.dumps(allowed)
    return json.dumps(document).encode()


def without_bookbuyer(manifest: bytes) -> bytes:
    document = json.loads(manifest)
    del document["Marbles"]["bookbuyer"]
    return json.dumps(document).encode()


def raised_bookbuyer(_manifest: bytes) -> bytes:
    return json.dumps({"Packages": {"bookbuyer": {"SecurityVersion": 2}}}).encode()


class Calls:
    """The auditor's calls: one after the other, several at a time, until told to stop."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.stop = asyncio.Event()

    async def make(self, stub: BookstoreServiceStub) -> None:
        while not self.stop.is_set():
            try:
                await stub.ListBooks(bookstore_pb2.ListBooksRequest(page_size=1), timeout=5)
                self.outcomes["ok"] += 1
            except grpc.aio.AioRpcError as error:
                self.outcomes[f"{error.code().name}: {error.details()}"] += 1
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def auditing(system: System, folder: Path):
    topology, trust = system.topology, system.coordinator_trust()
    settings = MarbleSettings.from_environ(
        {
            "EDG_MARBLE_TYPE": "auditor",
            "EDG_MARBLE_COORDINATOR_ADDR": f"{topology.host('coordinator')}:{MESH_PORT}",
            "CBS_COORDINATOR_CLIENT_ADDR": topology.client_address,
            "EDG_MARBLE_UUID_FILE": str(folder / "auditor-uuid"),
            "CBS_PCCS_URL": topology.pccs_url,
            "CBS_STATUS_ADDR": "127.0.0.1:0",
        }
    )
    async with Marble(
        settings,
        platform=InProcessPlatform(system.platform, AUDITOR),
        verifier=trust.verifier,
        coordinator_package=trust.package,
        environ={},
    ) as marble:
        stub = BookstoreServiceStub(marble.channel("bookstore", topology.address("bookstore")))
        calls = Calls()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(calls.make(stub))
            try:
                yield marble, calls
            finally:
                calls.stop.set()


async def root_of(system: System):
    return (await verify_coordinator(system.topology.client_address, system.coordinator_trust())).root


async def until_refused(log: Path, position: int) -> float:
    """Seconds until the buyer's log says that it was refused for this reason."""

    def new_text() -> str:
        return log.read_bytes()[position:].decode()

    began = time.monotonic()
    while time.monotonic() - began < 2 * WITHIN:
        if REASON in await asyncio.to_thread(new_text):
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    raise AssertionError(f"the buyer was not refused: {await asyncio.to_thread(new_text)}")


@pytest.mark.parametrize("update", [raised_bookbuyer, without_bookbuyer])
async def test_a_revoked_marble_is_out_and_nobody_else_notices(system, tmp_path, update):
    owner = new_user("owner")
    running = system(bookbuyer={"CBS_BUY_INTERVAL": "0.02", "CBS_BUY_CONCURRENCY": "4"})
    running.manifest = with_owner(running.manifest, owner)
    async with running:
        await bought(running, more_than=10)
        log = running.workspace.logs / "bookbuyer.log"
        async with auditing(running, tmp_path) as (auditor, calls):
            await asyncio.sleep(1)
            position = log.stat().st_size
            generation = auditor.identity.chain_pem
            api = CoordinatorApi(Connection(running.topology.client_address, await root_of(running), user=owner))
            await asyncio.to_thread(api.update, update(running.manifest))
            took = await until_refused(log, position)
            await asyncio.sleep(WITHIN - min(took, WITHIN))
            before = (await observe(running.topology)).counter("bookbuyer", "books_bought")
            await asyncio.sleep(2)
            seen = await observe(running.topology)
        restarts = {name: running.supervisor.restarts(name) for name in ("bookstore", "bookwarehouse", "coordinator")}
    assert took <= WITHIN
    assert seen.counter("bookbuyer", "books_bought") == before
    assert auditor.identity.chain_pem != generation  # the others have renewed
    assert set(calls.outcomes) == {"ok"}
    assert calls.outcomes["ok"] > 100
    assert not seen.services["bookbuyer"]["ready"]
    assert seen.counter("bookstore", "errors_total") == seen.counter("bookwarehouse", "errors_total") == 0
    assert seen.counter("bookwarehouse", "refusals_total") == 0
    assert set(restarts.values()) == {0}
