"""Recovery over the client API, from a state whose key is gone."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from api_users import api_user, manifest_of_users, recovery_key, recovery_public_pem
from coordinators import certificates, client_at, client_of
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.attestation.binding import coordinator_report_data
from coordinator.sealing.directory import KEY_FILE

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
NAMES = ("abe", "zoe")
NEXT = "Secret was processed successfully. Upload the next secret. Remaining secrets: 1"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def upload(name: str, share: bytes, *, sent: bytes | None = None) -> dict[str, str]:
    """A share with its holder's signature; `sent` is what stands for it on the wire."""
    signature = recovery_key(name).sign(share, padding.PKCS1v15(), hashes.SHA256())
    return {"recoverySecret": b64(sent if sent is not None else share), "recoverySecretSignature": b64(signature)}


@pytest.fixture
async def locked(start, settings):
    """A coordinator that needs two shares, with the shares, and what it was before."""
    keys = {"RecoveryKeys": {name: recovery_public_pem(name) for name in NAMES}}
    async with start() as coordinator, client_of(coordinator) as client:
        raw = manifest_of_users(**keys)
        status, answer = await client.post("/api/v2/manifest", {"manifest": b64(raw)})
        assert (status, list(answer["data"]["RecoverySecrets"])) == (200, list(NAMES))
        before = (await client.data("/api/v2/quote"))["cert"], await client.data("/api/v2/manifest")
    secrets = answer["data"]["RecoverySecrets"]
    shares = {name: recovery_key(name).decrypt(base64.b64decode(secrets[name]), OAEP) for name in NAMES}
    (settings.seal_directory / KEY_FILE).unlink()
    async with start() as coordinator, client_of(coordinator) as client:
        yield client, shares, before


async def code(client: Any) -> int:
    return (await client.data("/api/v2/status"))["code"]


async def test_two_holders_recover_the_state(locked, verifier):
    client, shares, (chain, manifest) = locked
    assert await code(client) == 1
    assert (await client.data("/api/v2/quote"))["cert"] != chain
    assert await client.raw("GET", "/api/v2/manifest") == (
        500,
        "text/plain; charset=utf-8",
        b'{"status":"error","data":null,"message":"requested value not set"}\n',
    )
    assert await client.raw("POST", "/api/v2/recover", json.dumps(upload("abe", shares["abe"])).encode()) == (
        200,
        "application/json",
        f'{{"status":"success","data":{{"remaining":1,"message":"{NEXT}"}}}}\n'.encode(),
    )
    assert await client.raw("POST", "/api/v2/recover", json.dumps(upload("zoe", shares["zoe"])).encode()) == (
        200,
        "application/json",
        b'{"status":"success","data":{"remaining":0,"message":"Recovery successful."}}\n',
    )
    assert await code(client) == 3
    assert await client.data("/api/v2/manifest") == manifest
    data = await client.data("/api/v2/quote")
    assert data["cert"] == chain
    root = certificates(chain.encode())[1].public_bytes(Encoding.DER)
    await verifier.verify(base64.b64decode(data["quote"]), coordinator_report_data(root))
    assert await client.data("/quote") == {"Cert": data["cert"], "Quote": data["quote"]}


async def test_shares_may_come_encrypted(locked):
    client, shares, _ = locked
    first, second = await asyncio.gather(*(client.data("/api/v2/recover/public-key") for _ in range(2)))
    assert first == second
    assert list(first) == ["algorithm", "ephemeralPublicKey"]
    key = serialization.load_der_public_key(base64.b64decode(first["ephemeralPublicKey"]))
    assert (first["algorithm"], key.key_size) == ("RSA", 4096)
    for name in NAMES:
        encrypted = key.encrypt(shares[name], OAEP)
        status, answer = await client.post("/api/v2/recover", upload(name, shares[name], sent=encrypted))
        assert status == 200, answer
    assert await code(client) == 3


async def test_uploads_that_are_refused_change_nothing(locked):
    client, shares, _ = locked
    await client.post("/api/v2/recover", upload("abe", shares["abe"]))
    for content in (
        upload("abe", shares["abe"]),
        upload("abe", bytes(32)),
        upload("abe", bytes(16)),
        upload("abe", b""),
        upload("zoe", shares["zoe"], sent=bytes(512)),
        {},
    ):
        status, answer = await client.post("/api/v2/recover", content)
        assert (status, answer["status"], answer["data"]) == (500, "error", None), content
        assert await code(client) == 1
    status, answer = await client.post("/api/v2/recover", upload("zoe", shares["zoe"]))
    assert (status, answer["data"]["remaining"]) == (200, 0)


async def test_a_share_without_its_holders_signature(locked):
    client, shares, _ = locked
    await client.post("/api/v2/recover", upload("abe", shares["abe"]))
    status, answer = await client.post("/api/v2/recover", upload("abe", shares["zoe"]))
    assert (status, answer["message"].partition('"')[0]) == (
        500,
        "no matching recovery key found for recovery public key ",
    )
    assert await code(client) == 1
    for name in NAMES:
        status, _ = await client.post("/api/v2/recover", upload(name, shares[name]))
    assert (status, await code(client)) == (200, 3)


async def test_uploads_are_bounded(locked):
    client, _, _ = locked
    for size, status in ((20480, 400), (20481, 413)):
        got, answer = await client.post("/api/v2/recover", b"x" * size)
        assert (got, answer["status"]) == (status, "fail")
    assert answer["message"] == "request body is larger than 20480 bytes"


async def test_the_old_endpoint_is_gone_for_good(locked):
    client, shares, _ = locked
    status, answer = await client.post("/recover", shares["abe"])
    assert (status, answer["status"]) == (410, "error")


async def test_a_new_manifest_gives_the_old_state_up(locked):
    client, shares, (chain, _) = locked
    raw = manifest_of_users()
    assert (await client.post("/api/v2/manifest", {"manifest": b64(raw)}))[0] == 200
    assert await code(client) == 3
    assert (await client.data("/api/v2/manifest"))["manifest"] == b64(raw)
    assert (await client.data("/api/v2/quote"))["cert"] != chain
    for path, status in (("/api/v2/recover/public-key", 500), ("/api/v2/status", 200)):
        assert (await client.ask("GET", path))[0] == status
    status, answer = await client.post("/api/v2/recover", upload("abe", shares["abe"]))
    assert (status, answer["message"]) == (500, "server is not in expected state")


async def test_in_recovery_nobody_is_a_user(locked):
    client, _, _ = locked
    async with client_at(client.port, api_user("alice").tls()) as alice:
        assert (await alice.ask("GET", "/api/v2/secrets?s=note"))[0] == 401
        assert (await alice.ask("POST", "/api/v2/monotonic-counter"))[0] == 403


async def test_recovery_secrets_in_the_old_version(start):
    keys = {"RecoveryKeys": {"abe": recovery_public_pem("abe")}}
    async with start() as coordinator, client_of(coordinator) as client:
        status, answer = await client.post("/manifest", manifest_of_users(**keys))
        assert (status, list(answer["data"])) == (200, ["RecoverySecrets"])
        (secret,) = answer["data"]["RecoverySecrets"].values()
        assert len(recovery_key("abe").decrypt(base64.b64decode(secret), OAEP)) == 32
