"""The client API against a fake coordinator: old paths, odd answers, and whom the connection talks to."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from fake_client_api import FakeCoordinator, self_signed

from confidential_bookstore.errors import (
    ConfigurationError,
    CoordinatorRefused,
    CoordinatorUnavailable,
    CoordinatorUntrusted,
)
from confidential_bookstore.owner import answers
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection, read_answer
from confidential_bookstore.owner.user import read_user

RAW = b'{"Packages": {}}'


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture
def fake():
    with FakeCoordinator().serving() as serving:
        yield serving


@pytest.fixture
def api(fake) -> CoordinatorApi:
    return CoordinatorApi(Connection(fake.address, fake.root, seconds=5))


def test_an_old_coordinator(fake, api):
    """All of version 1: every call asks version 2 first, is told 405, and asks again."""
    fake.says("GET", "/status", {"StatusCode": 3, "StatusMessage": "fine"})
    signed = {"ManifestSignatureRootECDSA": b64(fake.sign(RAW)), "ManifestSignature": hashlib.sha256(RAW).hexdigest()}
    fake.says("GET", "/manifest", {**signed, "Manifest": b64(RAW)})
    fake.says("POST", "/manifest", {"RecoverySecrets": {"key": b64(b"x")}})
    fake.says("GET", "/secrets", {"a": {"Type": "plain", "Size": 0, "UserDefined": True, "Cert": None,
                                        "Private": b64(b"v"), "Public": b64(b"v")}})  # fmt: skip
    fake.says("POST", "/secrets", None)
    fake.says("GET", "/update", "one\ntwo\n")
    fake.says("POST", "/update", None)
    fake.says("GET", "/update-manifest", {"manifest": b64(RAW), "message": "wait", "missingUsers": ["bob"]})
    fake.says("POST", "/update-manifest", "done")
    fake.says("POST", "/update-cancel", "Update successfully cancelled")
    assert api.status() == answers.CoordinatorStatus(3, "fine")
    assert api.manifest().raw == RAW
    assert api.set_manifest(RAW) == {"key": b"x"}
    assert api.secrets(["a b", "c&d"])["a"].private.reveal() == b"v"
    api.set_secrets({"a": {"Key": b64(b"v")}})
    assert api.update_log() == ("one", "two")
    assert api.update(RAW).missing_acknowledgments == 0
    assert api.pending_update().missing_users == ("bob",)
    assert api.acknowledge(RAW).message == "done"
    api.cancel_update()
    paths = [path for _, path, _ in fake.asked]
    assert paths[0::2] == [f"/api/v2{path}" for path in paths[1::2]]
    assert "/secrets?s=a+b&s=c%26d" in paths
    bodies = {(method, path): body for method, path, body in fake.asked}
    assert bodies["POST", "/manifest"] == bodies["POST", "/update"] == RAW
    assert json.loads(bodies["POST", "/secrets"]) == {"a": {"Key": b64(b"v")}}


def test_an_old_coordinator_without_a_manifest(fake, api):
    fake.says("GET", "/manifest", {"ManifestSignatureRootECDSA": None, "ManifestSignature": "", "Manifest": None})
    fake.says("POST", "/manifest", None)
    with pytest.raises(CoordinatorRefused, match="no manifest"):
        api.manifest()
    assert api.set_manifest(RAW) == {}


def test_recovery_has_no_old_path(fake, api):
    with pytest.raises(CoordinatorRefused) as refused:
        api.recover(bytes(32), b"signature")
    assert refused.value.status == 405
    assert len(fake.asked) == 1


def test_only_405_leads_to_the_old_path(fake, api):
    fake.refuses("GET", "/api/v2/status", 500, "broken")
    with pytest.raises(CoordinatorRefused, match="HTTP 500: broken"):
        api.status()
    assert len(fake.asked) == 1


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (401, "unauthorized user: client certificate did not match any MarbleRun users", "--user-cert"),
        (403, "SignQuoteEndpoint feature is not enabled in the manifest", "FeatureGates"),
        (404, "no update in progress", "cbs manifest update"),
        (500, "server is not in expected state", "cbs status"),
        (500, "requested value not set", "cbs manifest set"),
        (500, "user bob is not allowed to read one or more secrets of: [a]", "Roles"),
        (500, "something else", ""),
    ],
)
def test_what_to_do_next(fake, api, status, message, hint):
    fake.refuses("GET", "/api/v2/status", status, message)
    with pytest.raises(CoordinatorRefused) as refused:
        api.status()
    assert message in str(refused.value)
    assert refused.value.exit_code == 1
    assert hint in refused.value.hint
    assert bool(hint) == bool(refused.value.hint)


def test_messages_cannot_write_over_a_terminal():
    body = json.dumps({"status": "error", "data": None, "message": "\x1b[2Jgone\r\n" + "x" * 9000}).encode()
    with pytest.raises(CoordinatorRefused) as refused:
        read_answer(500, body)
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 3000


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"status": "success"}', b"[" * 99999, b"\xff"]
)
def test_no_envelope(body):
    with pytest.raises(CoordinatorUnavailable, match="cannot be read"):
        read_answer(200, body)


@pytest.mark.parametrize(
    "data", [None, [], {}, {"code": "x", "message": ""}, {"code": 1, "message": 2}, "text", {"StatusCode": 1}]
)
def test_odd_data(data):
    with pytest.raises(CoordinatorUnavailable, match="no status that can be read"):
        answers.read_status(data)


def test_odd_data_with_secrets_is_never_shown():
    secret = {"Type": "plain", "Size": 0, "UserDefined": True, "Cert": "", "Private": "hunter2!"}
    for data in ({"secrets": {"a": secret}}, {"a": "hunter2"}, {"secrets": "hunter2"}):
        with pytest.raises(CoordinatorUnavailable) as unavailable:
            answers.read_secrets(data)
        assert "hunter2" not in str(unavailable.value)
        assert unavailable.value.__suppress_context__
    with pytest.raises(CoordinatorUnavailable):
        answers.read_recovery_secrets({"RecoverySecrets": {"a": 7}})
    with pytest.raises(CoordinatorUnavailable):
        answers.read_ephemeral_key({"algorithm": "ECDSA", "ephemeralPublicKey": ""})


def test_a_secret_that_is_called_secrets():
    inner = {"Type": "plain", "Size": 0, "UserDefined": False, "Cert": None, "Private": b64(b"p"), "Public": None}
    assert answers.read_secrets({"secrets": inner})["secrets"].private.reveal() == b"p"
    assert answers.read_secrets({"secrets": {"secrets": inner}})["secrets"].private.reveal() == b"p"
    assert answers.read_secrets({"secrets": {}}) == {}
    assert "p" not in repr(answers.read_secrets({"secrets": inner})["secrets"].private).replace("Secret", "")


@pytest.mark.parametrize("change", ["manifest", "fingerprint", "signature", "key"])
def test_a_manifest_that_is_not_signed(fake, api, change):
    other = FakeCoordinator()
    data = {
        "manifest": b64(RAW + b" " if change == "manifest" else RAW),
        "manifestFingerprint": "00" * 32 if change == "fingerprint" else hashlib.sha256(RAW).hexdigest(),
        "manifestSignatureRootECDSA": b64(
            b"x" if change == "signature" else (other if change == "key" else fake).sign(RAW)
        ),
    }
    fake.says("GET", "/api/v2/manifest", data)
    with pytest.raises(CoordinatorUntrusted):
        api.manifest()


def test_nothing_is_sent_to_another_root(fake):
    """Not even if it has the same name, and the address is the expected one."""
    other = FakeCoordinator()
    with pytest.raises(CoordinatorUntrusted, match="another root certificate"):
        CoordinatorApi(Connection(fake.address, other.root)).set_manifest(RAW)
    assert fake.asked == []


def test_no_server_and_no_tls():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def talk() -> None:
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"220 mail.example.com\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        root = FakeCoordinator().root
        with pytest.raises(CoordinatorUnavailable, match="no answer"):
            Connection(address, root, seconds=5).get("/status")
        thread.join(10)
    with pytest.raises(CoordinatorUnavailable, match="refused"):
        Connection(address, root, seconds=5).get("/status")


def test_a_silent_server():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(CoordinatorUnavailable, match="timed out"):
            Connection(address, FakeCoordinator().root, seconds=0.2).get("/status")


def test_an_answer_without_end(fake, api, monkeypatch):
    monkeypatch.setattr("confidential_bookstore.owner.connection.LARGEST_ANSWER", 1000)
    fake.says("GET", "/api/v2/status", "x" * 2000)
    with pytest.raises(CoordinatorUnavailable, match="too large"):
        api.status()


def pem(key: ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def test_the_user_is_shown():
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed("alice", key)
    user = read_user(certificate.public_bytes(Encoding.PEM), pem(key))
    assert "PRIVATE" not in repr(user)
    with FakeCoordinator().serving(client_ca=certificate) as fake:
        fake.says("GET", "/api/v2/status", {"code": 3, "message": ""})
        CoordinatorApi(Connection(fake.address, fake.root, user)).status()
        CoordinatorApi(Connection(fake.address, fake.root)).status()
        assert fake.users == [certificate.public_bytes(Encoding.DER), None]


def test_a_user_that_cannot_be_used():
    one, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed("alice", one).public_bytes(Encoding.PEM)
    for key, said in (
        (pem(other), "do not belong"),
        (pem(one, b"password"), "cannot be read"),
        (b"", "cannot be read"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            read_user(certificate, key)
    with pytest.raises(ConfigurationError, match="certificate cannot be read"):
        read_user(b"", pem(one))
    with pytest.raises(ConfigurationError) as encrypted:
        read_user(certificate, pem(one, b"password"))
    assert "openssl pkey" in encrypted.value.hint
