"""Activation against a coordinator that shows real quotes, and the ways in which it must fail."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
import uuid
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from fake_coordinator import BOOKSTORE, COORDINATOR, COORDINATOR_PACKAGE, FakeCoordinator, impostor
from grpclib.const import Status
from marble_pki import MarblePki, pem_of

from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import (
    ActivationDenied,
    ConfigurationError,
    CoordinatorUnavailable,
    CoordinatorUntrusted,
)
from confidential_bookstore.marble import activation
from confidential_bookstore.marble.activation import activate, activate_once, load_or_create_uuid, write_files
from confidential_bookstore.marble.activation_key import new_activation_key
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust
from confidential_bookstore.marble.environment import MarbleSettings
from confidential_bookstore.marble.identity import Identity
from confidential_bookstore.secret import Secret

UUID = uuid.UUID("5e0b2f6e-0000-4000-8000-000000000001")


@pytest.fixture
async def coordinator(platform, verifier):
    fake = FakeCoordinator(platform, verifier)
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def settings(coordinator) -> MarbleSettings:
    return MarbleSettings(
        marble_type="bookstore",
        coordinator_address=f"127.0.0.1:{coordinator.mesh_port}",
        coordinator_client_address=f"127.0.0.1:{coordinator.client_port}",
        dns_names=("bookstore", "10.0.0.7", "127.0.0.1"),
    )


@pytest.fixture
def trust(verifier) -> CoordinatorTrust:
    return CoordinatorTrust(verifier, COORDINATOR_PACKAGE)


@pytest.fixture
def enclave(platform) -> InProcessPlatform:
    return InProcessPlatform(platform, BOOKSTORE)


async def test_activates(coordinator, settings, trust, enclave):
    coordinator.env = {"GREETING": b"hello"}
    coordinator.files = {"/x": b"y"}
    coordinator.argv = ("bookstore", "--flag")
    activation = await activate_once(settings, enclave, trust, UUID)
    identity = activation.identity
    assert (identity.marble_type, identity.uuid, identity.trust_domain) == ("bookstore", str(UUID), "marbles.internal")
    assert identity.marble_root_pem == pem_of(coordinator.pki.marble_root)
    assert activation.env["GREETING"] == Secret("hello")
    assert activation.files == {"/x": Secret(b"y")}
    assert activation.argv == ("bookstore", "--flag")
    assert "hello" not in repr(activation)
    assert "BEGIN" not in repr(activation).replace("BEGIN CERTIFICATE", "")
    [request] = coordinator.activations
    names = x509.load_der_x509_csr(request.CSR).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["bookstore"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "10.0.0.7"]


async def test_every_activation_has_a_key_of_its_own(coordinator, settings, trust, enclave):
    for _ in range(2):
        await activate_once(settings, enclave, trust, UUID)
    first, second = (request.CSR for request in coordinator.activations)
    assert x509.load_der_x509_csr(first).public_key() != x509.load_der_x509_csr(second).public_key()


async def test_root_certificate_can_be_pinned_instead_of_a_package(coordinator, settings, enclave):
    coordinator.identity = None  # no quote at all
    trust = CoordinatorTrust(None, pinned_root=coordinator.pki.root)
    assert (await activate_once(settings, enclave, trust, UUID)).identity.marble_type == "bookstore"


def distrusted(name: str):
    """What can be wrong with a coordinator, by name."""
    return {
        "other product": {"identity": dataclasses.replace(COORDINATOR, product_id=3)},
        "other signer": {"identity": dataclasses.replace(COORDINATOR, mr_signer=b"x" * 32)},
        "too old": {"identity": dataclasses.replace(COORDINATOR, security_version=1)},
        "debug": {"identity": dataclasses.replace(COORDINATOR, debug=True)},
        "stale quote": {"quote_over": b"another nonce"},
        "no quote": {"identity": None},
    }[name]


@pytest.mark.parametrize("wrong", ["other product", "other signer", "too old", "debug", "stale quote", "no quote"])
async def test_untrusted_coordinator_gets_nothing(coordinator, settings, trust, enclave, wrong):
    for name, value in distrusted(wrong).items():
        setattr(coordinator, name, value)
    with pytest.raises(CoordinatorUntrusted, match="quote is not accepted"):
        await activate_once(settings, enclave, trust, UUID)
    assert coordinator.activations == []


async def test_coordinator_on_another_simulated_platform(coordinator, settings, trust, enclave):
    coordinator.platform = SimulatedPlatform.create()
    with pytest.raises(CoordinatorUntrusted, match="root"):
        await activate_once(settings, enclave, trust, UUID)
    assert coordinator.activations == []


async def test_relayed_quote_of_a_genuine_coordinator(coordinator, settings, trust, enclave):
    """The man in the middle answers with what the genuine coordinator said, over a TLS key of its own."""
    coordinator.pki.root = MarblePki().root
    with pytest.raises(CoordinatorUntrusted, match="another root than the connection"):
        await activate_once(settings, enclave, trust, UUID)
    assert coordinator.activations == []


async def test_intermediate_of_somebody_else(coordinator, settings, trust, enclave):
    coordinator.pki.intermediate = MarblePki().intermediate
    with pytest.raises(CoordinatorUntrusted, match="not signed by its root"):
        await activate_once(settings, enclave, trust, UUID)


async def test_another_pinned_root(coordinator, settings, enclave):
    trust = CoordinatorTrust(None, pinned_root=MarblePki().root)
    with pytest.raises(CoordinatorUntrusted, match="another root certificate"):
        await activate_once(settings, enclave, trust, UUID)


async def test_mesh_server_of_somebody_else(platform, verifier, trust, enclave):
    """The client API is genuine, but the mesh address leads elsewhere."""
    fake = FakeCoordinator(platform, verifier, mesh=impostor())
    await fake.start()
    settings = MarbleSettings(
        marble_type="bookstore",
        coordinator_address=f"127.0.0.1:{fake.mesh_port}",
        coordinator_client_address=f"127.0.0.1:{fake.client_port}",
    )
    try:
        with pytest.raises(CoordinatorUntrusted, match="not the verified coordinator's"):
            await activate_once(settings, enclave, trust, UUID)
        assert fake.activations == []
    finally:
        await fake.stop()


async def test_malformed_certificate_at_the_mesh_address(settings, trust, enclave, malformed_server):
    """OpenSSL takes it, and whoever is between marble and coordinator can show it: an error like any other."""
    async with malformed_server() as port:
        wrong = dataclasses.replace(settings, coordinator_address=f"127.0.0.1:{port}")
        with pytest.raises(CoordinatorUntrusted, match="malformed certificate"):
            await activate_once(wrong, enclave, trust, UUID)


async def test_answer_that_is_too_deep_to_read(coordinator, settings, trust, enclave):
    coordinator.body = b"[" * 200_000
    with pytest.raises(CoordinatorUntrusted, match="malformed"):
        await activate_once(settings, enclave, trust, UUID)


def test_trusting_nobody_in_particular_is_refused(verifier):
    with pytest.raises(ConfigurationError, match="package or by its root"):
        CoordinatorTrust(verifier)
    with pytest.raises(ConfigurationError, match="verifier"):
        CoordinatorTrust(None, Package(unique_id="00" * 32))


@pytest.mark.parametrize(
    ("switches", "match"),
    [
        ({"issue_type": "bookthief"}, "another marble type: got bookthief, expected bookstore"),
        ({"replace_env": {"MARBLE_PREDEFINED_ROOT_CA": b""}}, "does not hold together"),
        ({"replace_env": {"MARBLE_PREDEFINED_ROOT_CA": pem_of(MarblePki().marble_root)}}, "does not hold together"),
        ({"replace_env": {"MARBLE_PREDEFINED_COORDINATOR_ROOT_CA": pem_of(MarblePki().root)}}, "not the verified"),
        ({"replace_env": {"MARBLE_PREDEFINED_PRIVATE_KEY": MarblePki().leaf("bookstore")[1]}}, "key is not"),
        ({"replace_env": {"MARBLE_PREDEFINED_PRIVATE_KEY": b"garbage"}}, "does not hold together"),
        ({"env": {"X": b"\xff"}}, "not text"),
        ({"env": {"X": b"a\0b"}}, "cannot be set"),
        ({"env": {"X=Y": b"a"}}, "cannot be set"),
    ],
)
async def test_answers_that_do_not_hold_together(*, coordinator, settings, trust, enclave, switches, match):
    for name, value in switches.items():
        setattr(coordinator, name, value)
    with pytest.raises(CoordinatorUntrusted, match=match):
        await activate_once(settings, enclave, trust, UUID)


def test_the_chain_must_lead_to_the_verified_root(pki):
    """The Marble Root has the intermediate's name and key, but no signature of the coordinator's root."""
    chain, key = pki.leaf("bookstore")
    leaf = x509.load_pem_x509_certificates(chain)[0]
    env = {
        "MARBLE_PREDEFINED_ROOT_CA": pem_of(pki.marble_root).decode(),
        "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA": pem_of(pki.root).decode(),
        "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN": chain.decode(),
        "MARBLE_PREDEFINED_PRIVATE_KEY": key.decode(),
    }
    Identity.from_environment(env, marble_type="bookstore", uuid="", coordinator_root=pki.root)
    env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"] = (pem_of(leaf) + pem_of(pki.marble_root)).decode()
    with pytest.raises(CoordinatorUntrusted, match="does not hold together"):
        Identity.from_environment(env, marble_type="bookstore", uuid="", coordinator_root=pki.root)


async def test_refusal_has_the_coordinators_words(coordinator, settings, trust, platform):
    other = InProcessPlatform(
        platform, EnclaveIdentity(mr_enclave=b"t" * 32, mr_signer=b"s" * 32, product_id=5, security_version=1)
    )
    with pytest.raises(ActivationDenied, match="ProductID"):
        await activate(settings, other, trust, UUID)
    assert len(coordinator.activations) == 1


@pytest.mark.parametrize("status", [Status.PERMISSION_DENIED, Status.UNAUTHENTICATED, Status.INVALID_ARGUMENT])
async def test_refusals_are_final(coordinator, settings, trust, enclave, status):
    coordinator.refuse = (status, "reached max activations count (1)")
    with pytest.raises(ActivationDenied, match="reached max activations count"):
        await activate(settings, enclave, trust, UUID)
    assert len(coordinator.activations) == 1


async def test_waits_for_a_coordinator_that_is_not_ready(coordinator, settings, trust, enclave):
    coordinator.refuse = (Status.FAILED_PRECONDITION, "cannot accept marbles in current state")
    pauses = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            coordinator.refuse = None

    with structlog.testing.capture_logs() as logs:
        await activate(settings, enclave, trust, UUID, sleep=sleep, jitter=lambda: 1.0)
    assert pauses == [0.25, 0.5, 1, 2, 4, 8, 15, 15]
    assert all("cannot accept marbles" in entry["reason"] for entry in logs if entry["event"] == "activation.waiting")
    assert len(coordinator.activations) == 9


async def test_coordinator_without_a_manifest_or_away(coordinator, settings, trust, enclave):
    coordinator.status = 500
    with pytest.raises(CoordinatorUnavailable, match="HTTP 500"):
        await activate(settings, enclave, trust, UUID, attempts=1)
    coordinator.status = 200
    await coordinator.stop()
    with pytest.raises(CoordinatorUnavailable, match="no answer from the coordinator's client API"):
        await activate(settings, enclave, trust, UUID, attempts=2, sleep=lambda _: asyncio.sleep(0))
    await coordinator.start()


async def test_coordinator_that_never_finishes_its_answer(settings, trust, enclave, monkeypatch):
    """A renewal must get to its next attempt, and notice that the certificate has expired."""
    writers = []
    monkeypatch.setattr(activation, "_ATTEMPT_SECONDS", 0.2)
    async with await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        wrong = dataclasses.replace(settings, coordinator_client_address=f"127.0.0.1:{port}")
        with pytest.raises(CoordinatorUnavailable, match="takes too long"):
            await activate_once(wrong, enclave, trust, UUID)
        for writer in writers:
            writer.close()


async def test_client_api_that_speaks_something_else(settings, trust, enclave):
    async def handle(reader, writer):
        await reader.read(100)
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        wrong = dataclasses.replace(settings, coordinator_client_address=f"127.0.0.1:{port}")
        with pytest.raises(CoordinatorUnavailable):
            await activate_once(wrong, enclave, trust, UUID)


def test_activation_key_is_as_marblerun_makes_it():
    key = new_activation_key(["bookstore", "::1"])
    certificate = x509.load_der_x509_certificate(key.certificate_der)
    assert certificate.subject.rfc4514_string() == "CN=MarbleRun Marble"
    assert certificate.public_key().curve.name == "secp384r1"
    certificate.verify_directly_issued_by(certificate)
    request = x509.load_der_x509_csr(key.request_der)
    assert request.is_signature_valid
    assert list(request.subject) == []
    with pytest.raises(ConfigurationError, match="EDG_MARBLE_DNS_NAMES"):
        new_activation_key(["bücher"])


def test_uuid_file(tmp_path: Path):
    file = tmp_path / "deep" / "uuid"
    made = load_or_create_uuid(file)
    assert load_or_create_uuid(file) == made
    assert file.read_text() == str(made)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    for wrong in ("", "not a uuid", "00000000-0000-0000-0000-000000000000"):
        file.write_text(wrong)
        with pytest.raises(ConfigurationError, match="holds no UUID"):
            load_or_create_uuid(file)


def test_files_are_written_in_one_step(tmp_path: Path):
    (tmp_path / "a").write_text("old")
    write_files({str(tmp_path / "b/c/d"): Secret(b"deep"), str(tmp_path / "a"): Secret(b"new")})
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "b/c/d").read_text() == "deep"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "b/c").stat().st_mode & 0o777 == 0o700
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    for name in (str(tmp_path / "a/file-as-directory"), "/dev/attestation/keys/absent"):
        with pytest.raises(ConfigurationError, match="cannot write"):
            write_files({name: Secret(b"")})


def test_what_a_crash_left_behind_does_not_stop_the_next_start(tmp_path: Path, monkeypatch):
    """In a container, the process id is the same at every start."""

    def crash(*_args) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            write_files({str(tmp_path / "key"): Secret(b"1")})
    assert len(list(tmp_path.iterdir())) == 1
    write_files({str(tmp_path / "key"): Secret(b"2")})
    assert (tmp_path / "key").read_bytes() == b"2"


@pytest.mark.parametrize(
    "address", ["bookstore", "bookstore:", ":1", "a:65536", "a:\u0661", "unix:/tmp/socket:1", "::1:1"]
)
def test_addresses_are_a_host_and_a_port(address):
    with pytest.raises(ConfigurationError, match="CBS_LISTEN_ADDR is not an address"):
        MarbleSettings.from_environ({"EDG_MARBLE_TYPE": "bookstore", "CBS_LISTEN_ADDR": address})


async def test_mesh_that_answers_nothing(coordinator, settings, trust, enclave):
    with contextlib.closing(await closed_port()) as listener:
        port = listener.getsockname()[1]
        wrong = dataclasses.replace(settings, coordinator_address=f"127.0.0.1:{port}")
        with pytest.raises(CoordinatorUnavailable, match="mesh API"):
            await activate_once(wrong, enclave, trust, UUID)


async def closed_port():
    import socket

    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


def test_client_context_keeps_no_file(tmp_path, monkeypatch):
    from confidential_bookstore.marble.tls import unverified_context

    monkeypatch.chdir(tmp_path)
    key = new_activation_key([])
    context = unverified_context(chain_pem=key.certificate_pem, key_pem=key.private_key_pem)
    assert context.verify_mode is ssl.CERT_NONE
    assert list(tmp_path.iterdir()) == []
