"""Package updates and full updates over the client API, in both versions."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from api_users import SECRETS, api_user, manifest_of_users, recovery_key, recovery_public_pem
from coordinators import Client, certificates, client_at, client_of, set_manifest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
RAISED = {"Packages": {"bookstore": {"SecurityVersion": 5}}}
LOCKED = "update already in progress. Acknowledge the update to apply it, or cancel it to start a new one"
WAITING = "1 user still needs to acknowledge the update manifest."
APPLIED = "All users have acknowledged the update manifest. Update successfully applied"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def posted(raw: bytes) -> dict[str, str]:
    return {"manifest": b64(raw)}


def new_manifest(**changes: object) -> bytes:
    """With one secret more."""
    return manifest_of_users(**({"Secrets": {**SECRETS, "added": {"Type": "plain", "UserDefined": True}}} | changes))


@pytest.fixture
async def alice_and_bob(start):
    async with start() as coordinator:
        await set_manifest(coordinator, manifest_of_users())
        async with (
            client_of(coordinator, api_user("alice").tls()) as alice,
            client_of(coordinator, api_user("bob").tls()) as bob,
        ):
            yield alice, bob


async def events(client: Client) -> list[dict[str, object]]:
    """The update log without times, which are checked here."""
    entries = [json.loads(line) for line in (await client.data("/api/v2/update"))["updateLog"]]
    for entry in entries:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    return entries


async def test_a_package_update_rotates_the_intermediate_and_keeps_the_manifest(alice_and_bob):
    alice, _ = alice_and_bob
    before, manifest = await alice.data("/api/v2/quote"), await alice.data("/api/v2/manifest")
    assert await alice.post("/api/v2/update", posted(json.dumps(RAISED).encode())) == (
        200,
        {"status": "success", "data": {"missingAcknowledgments": 0, "missingUsers": None}},
    )
    after = await alice.data("/api/v2/quote")
    (old, root), (new, same) = certificates(before["cert"].encode()), certificates(after["cert"].encode())
    assert (root, before["quote"]) == (same, after["quote"])
    assert old.public_key() != new.public_key()
    assert await alice.data("/api/v2/manifest") == manifest
    assert await events(alice) == [
        {"update": "Initial manifest set"},
        {"update": "SecurityVersion increased", "user": "alice", "package": "bookstore", "new version": 5},
    ]


async def test_the_old_version_answers_null(alice_and_bob):
    alice, _ = alice_and_bob
    assert await alice.raw("POST", "/update", json.dumps(RAISED).encode()) == (
        200,
        "application/json",
        b'{"status":"success","data":null}\n',
    )


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ({"SecurityVersion": 1}, "update manifest tries to downgrade SecurityVersion of the original manifest"),
        ({"SecurityVersion": 5, "Debug": True}, "update manifest contains unupdatable values"),
        ({}, "update manifest does not specify a SecurityVersion to update"),
    ],
)
async def test_package_updates_that_do_not_fit(alice_and_bob, package, message):
    alice, _ = alice_and_bob
    raw = json.dumps({"Packages": {"bookstore": package}}).encode()
    status, answer = await alice.post("/api/v2/update", posted(raw))
    assert (status, answer["status"], message in answer["message"]) == (500, "error", True), answer
    status, old = await alice.post("/update", raw)
    assert (status, old) == (400, answer)
    assert len(await events(alice)) == 1


async def test_a_package_that_does_not_exist(alice_and_bob):
    alice, _ = alice_and_bob
    raw = json.dumps({"Packages": {"nowhere": {"SecurityVersion": 5}}}).encode()
    status, answer = await alice.post("/api/v2/update", posted(raw))
    assert (status, answer["status"]) == (500, "error")
    assert "nowhere" in answer["message"]


async def test_who_may_not_update(alice_and_bob):
    _, bob = alice_and_bob
    status, answer = await bob.post("/api/v2/update", posted(json.dumps(RAISED).encode()))
    assert (status, answer["message"]) == (500, "user bob is not allowed to update one or more packages of [bookstore]")
    status, answer = await bob.post("/update", json.dumps(RAISED).encode())
    assert (status, answer["status"]) == (400, "error")


async def test_a_full_update_waits_for_everybody(alice_and_bob):
    alice, bob = alice_and_bob
    raw = new_manifest()
    assert await alice.post("/api/v2/update", posted(raw)) == (
        200,
        {"status": "success", "data": {"missingAcknowledgments": 1, "missingUsers": ["bob"]}},
    )
    expected = (
        f'{{"status":"success","data":{{"manifest":"{b64(raw)}","message":"{WAITING}","missingUsers":["bob"]}}}}\n'
    )
    for path in ("/api/v2/update-manifest", "/update-manifest"):
        assert await alice.raw("GET", path) == (200, "application/json", expected.encode())
    for document in (raw, json.dumps(RAISED).encode()):
        assert (await alice.post("/api/v2/update", posted(document)))[1]["message"] == LOCKED
        assert (await alice.post("/update", document))[0] == 400
    assert await alice.post("/api/v2/update-manifest", posted(raw)) == (
        200,
        {"status": "success", "data": {"message": WAITING, "missingUsers": ["bob"], "missingAcknowledgments": 1}},
    )
    assert (await alice.data("/api/v2/manifest"))["manifest"] == b64(manifest_of_users())
    assert await bob.post("/api/v2/update-manifest", posted(raw)) == (
        200,
        {"status": "success", "data": {"message": APPLIED, "missingUsers": None, "missingAcknowledgments": 0}},
    )
    data = await alice.data("/api/v2/manifest")
    fingerprint = hashlib.sha256(raw).hexdigest()
    assert (data["manifest"], data["manifestFingerprint"]) == (b64(raw), fingerprint)
    assert (await alice.ask("GET", "/update-manifest"))[0] == 404
    updates = [(entry["update"], entry.get("user"), entry.get("manifestFingerprint")) for entry in await events(alice)]
    assert updates[0] == ("Initial manifest set", None, None)
    assert updates[1] == (
        "Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update",
        "alice",
        fingerprint,
    )
    assert updates[-2:] == [
        ("Complete Manifest update acknowledged by user", "bob", fingerprint),
        ("Complete Manifest updated", None, fingerprint),
    ]


async def test_the_old_version_acknowledges_with_a_text(alice_and_bob):
    alice, bob = alice_and_bob
    raw = new_manifest()
    assert (await alice.raw("POST", "/update", raw))[2] == b'{"status":"success","data":null}\n'
    for client, message in ((alice, WAITING), (bob, APPLIED)):
        answer = f'{{"status":"success","data":"{message}"}}\n'.encode()
        assert await client.raw("POST", "/update-manifest", raw) == (200, "application/json", answer)


async def test_what_is_not_acknowledged(alice_and_bob):
    alice, bob = alice_and_bob
    raw = new_manifest()
    await alice.post("/api/v2/update", posted(raw))
    for path, content in (("/api/v2/update-manifest", posted(raw + b" ")), ("/update-manifest", raw + b" ")):
        status, answer = await bob.post(path, content)
        assert (status, answer["message"]) == (500, "provided manifest does not match the pending manifest")
    async with client_at(bob.port, api_user("carol").tls()) as carol:
        for path, content in (("/api/v2/update-manifest", posted(raw)), ("/update-manifest", raw)):
            status, answer = await carol.post(path, content)
            assert (status, answer["message"]) == (500, "user carol is not allowed to acknowledge manifest updates")
        for path in ("/api/v2/update-cancel", "/update-cancel"):
            status, answer = await carol.post(path)
            assert (status, answer["message"]) == (500, "user carol is not allowed to cancel manifest updates")
        status, answer = await carol.post("/api/v2/update", posted(raw))
        assert (status, answer["message"]) == (500, LOCKED)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/api/v2/update-cancel", b'{"status":"success","data":{"message":"Update successfully cancelled"}}\n'),
        ("/update-cancel", b'{"status":"success","data":"Update successfully cancelled"}\n'),
    ],
)
async def test_a_cancelled_update_is_over(alice_and_bob, path, answer):
    alice, bob = alice_and_bob
    await alice.post("/api/v2/update", posted(new_manifest()))
    assert await bob.raw("POST", path) == (200, "application/json", answer)
    assert (await alice.post("/api/v2/update-manifest", posted(new_manifest())))[0] == 404
    assert (await events(alice))[-1]["update"] == "Complete Manifest update cancelled by user"
    assert (await alice.data("/api/v2/manifest"))["manifest"] == b64(manifest_of_users())


async def test_an_invalid_new_manifest_is_not_proposed(alice_and_bob):
    alice, _ = alice_and_bob
    raw = new_manifest(Marbles={"bookstore": {"Package": "nowhere"}})
    status, answer = await alice.post("/api/v2/update", posted(raw))
    assert (status, answer["message"].startswith("Marbles.bookstore.Package")) == (500, True)
    assert (await alice.ask("GET", "/api/v2/update-manifest"))[0] == 404


async def test_an_update_that_cannot_be_applied_after_all_is_over(alice_and_bob):
    """What was uploaded meanwhile does not suit the new manifest."""
    alice, bob = alice_and_bob
    marbles = {"bookstore": {"Package": "bookstore", "Parameters": {"Env": {"NOTE": "{{ string .Secrets.note }}"}}}}
    raw = new_manifest(Marbles=marbles)
    await alice.post("/api/v2/update", posted(raw))
    assert (await alice.post("/secrets", {"note": {"Key": b64(b"a\x00b")}}))[0] == 200
    status, answer = await bob.post("/api/v2/update-manifest", posted(raw))
    assert (status, "Marbles.bookstore.Parameters.Env.NOTE" in answer["message"]) == (500, True)
    assert (await bob.post("/api/v2/update-manifest", posted(raw)))[0] == 404
    assert (await events(alice))[-1] == {"update": "Complete Manifest update cancelled due to error during apply"}
    assert (await alice.data("/api/v2/manifest"))["manifest"] == b64(manifest_of_users())


async def test_new_recovery_keys_give_recovery_secrets_to_whoever_completes_the_update(start):
    keys = {"RecoveryKeys": {name: recovery_public_pem(name) for name in ("zoe", "abe")}}
    raw = new_manifest(**keys)
    threshold = {"Config": {"UpdateThreshold": 1}}
    async with start() as coordinator, client_of(coordinator, api_user("alice").tls()) as alice:
        await set_manifest(coordinator, manifest_of_users(**threshold))
        status, answer = await alice.post("/api/v2/update", posted(raw))
        assert (status, list(answer["data"])) == (200, ["missingAcknowledgments", "missingUsers", "recoverySecrets"])
        secrets = answer["data"]["recoverySecrets"]
    assert list(secrets) == ["abe", "zoe"]
    assert {len(recovery_key(name).decrypt(base64.b64decode(secrets[name]), OAEP)) for name in secrets} == {32}


async def test_the_log_in_both_versions(alice_and_bob):
    alice, _ = alice_and_bob
    await alice.post("/update", json.dumps(RAISED).encode())
    lines = (await alice.data("/api/v2/update"))["updateLog"]
    assert len(lines) == 2
    assert await alice.data("/update") == "".join(f"{line}\n" for line in lines)


async def test_a_user_who_was_removed_is_a_stranger(alice_and_bob):
    alice, bob = alice_and_bob
    users = json.loads(manifest_of_users())["Users"]
    raw = new_manifest(Users={"alice": users["alice"]})
    await alice.post("/api/v2/update", posted(raw))
    assert (await bob.post("/api/v2/update-manifest", posted(raw)))[0] == 200
    assert (await bob.post("/api/v2/update", posted(raw)))[0] == 401
    assert (await alice.data("/api/v2/secrets?s=shared"))["secrets"]["shared"]["Size"] == 256
