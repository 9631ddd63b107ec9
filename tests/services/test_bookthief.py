"""The thief really tries: it gets books where nothing stops it, and nothing but words from an attested store."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from bookstore_world import BOOKS, new_id, serving, stub_for, until
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.api.bookstore.v1 import bookstore_pb2
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import (
    BookstoreServiceServicer,
    add_BookstoreServiceServicer_to_server,
)
from confidential_bookstore.api.bookthief.v1 import bookthief_pb2 as pb
from confidential_bookstore.api.bookthief.v1.bookthief_pb2_grpc import (
    BookthiefServiceStub,
    add_BookthiefServiceServicer_to_server,
)
from confidential_bookstore.errors import NoPlatform
from confidential_bookstore.marble import Identity, MarbleServer, MarbleSettings
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.pki.names import MARBLE_TYPE_OID, marble_dns_name, marble_uri
from confidential_bookstore.policy.access import AccessRules
from confidential_bookstore.secret import Secret
from confidential_bookstore.telemetry.status import Status
from services.bookthief.diary import Diary, Entry
from services.bookthief.methods import Refused
from services.bookthief.methods.ask_coordinator import AskTheCoordinator
from services.bookthief.methods.attested import AttestedMarble
from services.bookthief.methods.no_certificate import NoCertificate
from services.bookthief.methods.plaintext import Plaintext
from services.bookthief.methods.self_signed import SelfSignedCertificate
from services.bookthief.service import BookthiefService
from services.bookthief.thief import Thief

ROOT = Path(__file__).parents[2]


class Victim(BookstoreServiceServicer):
    """Sells to everybody who gets through to it."""

    def __init__(self) -> None:
        self.sold = 0

    async def ListBooks(self, request, context):
        page = bookstore_pb2.ListBooksResponse()
        page.books.add(book=books_pb2.Book(book_id=BOOKS[0].book_id))
        return page

    async def BuyBook(self, request, context):
        self.sold += request.quantity
        return bookstore_pb2.BuyBookResponse(receipt=books_pb2.Receipt(quantity=request.quantity, order_id=new_id()))


def certificate(subject: str, issuer: str, key, signer, *extensions) -> bytes:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=1))
        .not_valid_after(now + dt.timedelta(hours=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    return builder.sign(signer, SHA256()).public_bytes(Encoding.PEM)


def store_identity() -> Identity:
    """A bookstore with a real certificate of a deployment that the thief does not belong to."""
    ca, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Marble Root", "Marble Root", ca, ca, x509.BasicConstraints(ca=True, path_length=None))
    names = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(marble_uri("bookstore", "marbles.internal")),
            x509.DNSName(marble_dns_name("bookstore", "marbles.internal")),
        ]
    )
    marble_type = x509.UnrecognizedExtension(MARBLE_TYPE_OID, b"bookstore")
    now = time.time()
    return Identity(
        marble_type="bookstore",
        uuid=new_id(),
        chain_pem=certificate("bookstore", "Marble Root", leaf, ca, names, marble_type),
        private_key_pem=Secret(leaf.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
        marble_root_pem=root,
        coordinator_root_pem=root,
        not_before=now - 60,
        not_after=now + 3600,
        trust_domain="marbles.internal",
    )


@pytest.fixture(scope="module")
def identity():
    return store_identity()


@asynccontextmanager
async def confidential_store(identity, victim):
    server = MarbleServer(
        LiveIdentity(identity),
        [(add_BookstoreServiceServicer_to_server, victim)],
        address="127.0.0.1:0",
        rules=AccessRules.from_json("[]"),
        status=Status("bookstore"),
    )
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def tls_store_without_client_certificates(identity, victim):
    server = grpc.aio.server()
    add_BookstoreServiceServicer_to_server(victim, server)
    credentials = grpc.ssl_server_credentials([(identity.private_key_pem.reveal(), identity.chain_pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (NoCertificate, "client certificate required"),
        (SelfSignedCertificate, "client certificate not accepted"),
        (Plaintext, "UNAVAILABLE"),
    ],
)
async def test_an_attested_store_hands_over_nothing_and_says_why(identity, method, words):
    victim = Victim()
    async with confidential_store(identity, victim) as address:
        with pytest.raises(Refused, match=words):
            await method(address).steal()
    assert victim.sold == 0


async def test_a_store_in_plaintext_is_robbed():
    victim = Victim()
    async with serving(add_BookstoreServiceServicer_to_server, victim) as address:
        assert await Plaintext(address).steal() == 1
    assert victim.sold == 1


@pytest.mark.parametrize(
    ("method", "words"),
    [(NoCertificate, "TLS alert: .*certificate required"), (SelfSignedCertificate, "TLS alert: unknown ca")],
)
async def test_the_alert_of_a_server_that_sends_one_is_passed_on(identity, tmp_path, method, words):
    (tmp_path / "store.pem").write_bytes(identity.private_key_pem.reveal() + identity.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "store.pem")
    context.load_verify_locations(cadata=identity.marble_root_pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=refuse_everybody, args=(listener, context), daemon=True).start()
        with pytest.raises(Refused, match=words):
            await method(f"127.0.0.1:{listener.getsockname()[1]}").steal()
        listener.shutdown(socket.SHUT_RDWR)


def refuse_everybody(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Unlike gRPC's and asyncio's servers, a blocking one sends its alert before it hangs up."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()


@pytest.mark.parametrize("method", [NoCertificate, SelfSignedCertificate])
async def test_a_store_that_asks_for_no_certificate_is_robbed(identity, method):
    victim = Victim()
    async with tls_store_without_client_certificates(identity, victim) as address:
        assert await method(address).steal() == 1
    assert victim.sold == 1


@pytest.mark.parametrize("method", [NoCertificate, SelfSignedCertificate])
async def test_a_store_that_does_not_speak_tls_is_named(method):
    async with serving(add_BookstoreServiceServicer_to_server, Victim()) as address:
        with pytest.raises(Refused) as caught:
            await method(address).steal()
        assert str(caught.value)


@pytest.mark.parametrize("method", [NoCertificate, SelfSignedCertificate, Plaintext])
async def test_nobody_there(method):
    with pytest.raises(Refused, match=r"(?i)refused"):
        await method("127.0.0.1:1").steal()


class EmptyStore(Victim):
    async def ListBooks(self, request, context):
        return bookstore_pb2.ListBooksResponse()


async def test_an_empty_store():
    async with serving(add_BookstoreServiceServicer_to_server, EmptyStore()) as address:
        with pytest.raises(Refused, match="no books"):
            await Plaintext(address).steal()


def no_platform():
    raise NoPlatform("this machine issues no quotes")


@pytest.mark.parametrize("method", [AskTheCoordinator, AttestedMarble])
async def test_no_coordinator_and_no_platform_are_told_apart(identity, method):
    settings = MarbleSettings(marble_type="bookthief", coordinator_client_address="127.0.0.1:1")
    with pytest.raises(Refused, match="no coordinator answers"):
        await method("127.0.0.1:1", settings, no_platform).steal()
    async with tls_store_without_client_certificates(identity, Victim()) as address:
        reachable = replace(settings, coordinator_client_address=address)
        with pytest.raises(Refused, match="issues no quotes"):
            await method("127.0.0.1:1", reachable, no_platform).steal()


# What it remembers


class Scripted:
    def __init__(self, name: str, *outcomes) -> None:
        self.name = name
        self.outcomes = list(outcomes)

    async def steal(self) -> int:
        outcome = self.outcomes.pop(0) if self.outcomes else "enough"
        if isinstance(outcome, str):
            raise Refused(outcome)
        return outcome


@pytest.fixture
def path(tmp_path):
    return tmp_path / "thefts.jsonl"


async def test_counts_add_up_and_survive_a_restart(path, status, counters):
    thief = Thief([], Diary(path, status), clock=lambda: 1_700_000_000.25)
    for method in (Scripted("a", 1), Scripted("b", "no"), Scripted("a", "never"), Scripted("b", 2)):
        await thief.attempt(method)
    assert counters() == {"books_stolen": 3, "attempts": 4, "refused": 2}
    for _ in range(3):  # every start folds the file
        thefts = Diary(path, Status("again")).latest.value
        assert thefts.books_stolen == 3
        a, b = thefts.attempts
        assert (a.method, a.tried, a.refused, a.last_refusal) == ("a", 2, 1, "never")
        assert (b.method, b.tried, b.refused, b.last_refusal) == ("b", 2, 1, "no")
        assert b.last_tried_at.ToMilliseconds() == 1_700_000_000_250
        assert len(path.read_text().splitlines()) == 2


def test_a_torn_or_foreign_line_is_forgotten(path, status):
    diary = Diary(path, status)
    diary.record(Entry(method="a", at=1.0, stolen=1))
    with path.open("a") as file:
        file.write('{"method": "a", "at": 2.0, "tri')
    assert Diary(path, status).latest.value.books_stolen == 1
    path.write_text('[]\n{"method": "a"}\nnull\n')
    assert list(Diary(path, status).latest.value.attempts) == []


async def test_methods_take_turns(path, status):
    methods = [Scripted("a"), Scripted("b"), Scripted("c")]
    diary = Diary(path, status)
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    running = asyncio.create_task(Thief(methods, diary).run(0.5, sleep=sleep))
    await until(lambda: len(slept) >= 9)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    tried = [attempts.tried for attempts in diary.latest.value.attempts]
    assert max(tried) - min(tried) <= 1
    assert set(slept) == {0.5}


async def test_its_gRPC_face(path, status):  # gRPC's spelling
    diary = Diary(path, status)
    thief = Thief([], diary)
    async with (
        serving(add_BookthiefServiceServicer_to_server, BookthiefService(diary)) as address,
        stub_for(BookthiefServiceStub, address) as stub,
    ):
        watch = stub.WatchThefts(pb.WatchTheftsRequest())
        assert (await watch.read()).thefts.books_stolen == 0
        await thief.attempt(Scripted("a", 1))
        assert (await watch.read()).thefts.books_stolen == 1
        assert (await stub.GetThefts(pb.GetTheftsRequest())).thefts.attempts[0].tried == 1
        await stub.Reset(pb.ResetRequest())
        assert (await watch.read()).thefts == pb.Thefts()
        watch.cancel()
    assert Diary(path, status).latest.value == pb.Thefts()


async def test_the_whole_thief_as_a_process(tmp_path):
    """Robs a store in plaintext, shows it on its page and over gRPC, and leaves on SIGTERM."""
    victim = Victim()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [one.getsockname()[1], two.getsockname()[1]]
    async with serving(add_BookstoreServiceServicer_to_server, victim) as address:
        environ = {
            "CBS_BOOKSTORE_ADDR": address,
            "EDG_MARBLE_COORDINATOR_ADDR": "127.0.0.1:1",
            "CBS_LISTEN_ADDR": f"127.0.0.1:{ports[0]}",
            "CBS_STATUS_ADDR": f"127.0.0.1:{ports[1]}",
            "CBS_DATA_DIR": str(tmp_path),
            "CBS_STEAL_INTERVAL": "0",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.bookthief", env=environ, cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        try:
            await until(lambda: victim.sold >= 2, seconds=20)
            async with stub_for(BookthiefServiceStub, environ["CBS_LISTEN_ADDR"]) as stub:
                watch = stub.WatchThefts(pb.WatchTheftsRequest())
                thefts = (await watch.read()).thefts
                page = await asyncio.to_thread(fetch, f"http://{environ['CBS_STATUS_ADDR']}/status.json")
                process.send_signal(signal.SIGTERM)  # with a watcher connected
                async with asyncio.timeout(10):
                    await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
    assert process.returncode == 0
    assert thefts.books_stolen > 0
    assert {attempts.method for attempts in thefts.attempts} >= {
        "no certificate",
        "self-signed certificate",
        "plaintext",
    }
    assert page["counters"]["books_stolen"] >= thefts.books_stolen
    assert Diary(tmp_path / "thefts.jsonl", Status("again")).latest.value.books_stolen == victim.sold


def fetch(url: str):
    with urllib.request.urlopen(url, timeout=5) as response:
        return json.load(response)
