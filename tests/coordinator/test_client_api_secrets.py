"""Reading and uploading secrets over the client API."""

from __future__ import annotations

import base64
import json

import pytest
from api_users import api_user, manifest_of_users
from coordinators import Client, client_of, set_manifest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

KEY = bytes(range(16))


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture
async def alice(start):
    async with start() as coordinator, client_of(coordinator, api_user("alice").tls()) as client:
        await set_manifest(coordinator, manifest_of_users())
        yield client


async def set_secrets(client: Client, **secrets: object) -> tuple[int, object]:
    status, answer = await client.post("/api/v2/secrets", {"secrets": secrets})
    return status, answer.get("message", answer["data"])


async def test_a_symmetric_key_in_both_versions(alice):
    assert await alice.raw("POST", "/secrets", json.dumps({"uploaded": {"Key": b64(KEY)}}).encode()) == (
        200,
        "application/json",
        b'{"status":"success","data":null}\n',
    )
    secret = (
        f'{{"Type":"symmetric-key","Size":128,"Shared":false,"UserDefined":true,"Cert":null,"ValidFor":0,'
        f'"Private":"{b64(KEY)}","Public":"{b64(KEY)}"}}'
    )
    for path, data in (
        ("/secrets", f'{{"uploaded":{secret}}}'),
        ("/api/v2/secrets", f'{{"secrets":{{"uploaded":{secret}}}}}'),
    ):
        _, _, body = await alice.raw("GET", f"{path}?s=uploaded")
        assert body == f'{{"status":"success","data":{data}}}\n'.encode()


async def test_secrets_are_sorted_and_values_are_whole(alice):
    assert await set_secrets(alice, note={"Key": b64(b"<&>\x00")}, uploaded={"key": list(KEY)}) == (200, None)
    secrets = (await alice.data("/api/v2/secrets?s=uploaded&s=shared&s=note&s=certificate&s=note"))["secrets"]
    assert list(secrets) == ["certificate", "note", "shared", "uploaded"]
    assert base64.b64decode(secrets["note"]["Private"]) == b"<&>\x00"
    assert base64.b64decode(secrets["uploaded"]["Public"]) == KEY
    assert len(base64.b64decode(secrets["shared"]["Private"])) == 32
    certificate = secrets["certificate"]
    assert list(certificate) == ["Type", "Size", "Shared", "UserDefined", "Cert", "ValidFor", "Private", "Public"]
    assert (certificate["Type"], certificate["Size"], certificate["ValidFor"]) == ("cert-ecdsa", 256, 7)
    key = serialization.load_der_private_key(base64.b64decode(certificate["Private"]), None).public_key()
    public = serialization.load_der_public_key(base64.b64decode(certificate["Public"]))
    assert key == public == x509.load_der_x509_certificate(base64.b64decode(certificate["Cert"])).public_key()


async def test_a_secret_that_nobody_has_uploaded_is_null(alice):
    secrets = (await alice.data("/api/v2/secrets?s=note"))["secrets"]
    assert secrets == {
        "note": {
            "Type": "plain",
            "Size": 0,
            "Shared": False,
            "UserDefined": True,
            "Cert": None,
            "ValidFor": 0,
            "Private": None,
            "Public": None,
        }
    }


async def test_a_certificate_with_and_without_its_key(alice):
    user = api_user("bob")
    key = user.key.private_bytes(Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for private in (key, b""):
        assert await set_secrets(alice, badge={"Cert": b64(user.der), "Private": b64(private)}) == (200, None)
        badge = (await alice.data("/secrets?s=badge"))["badge"]
        assert base64.b64decode(badge["Cert"]) == user.der
        assert badge["Private"] == (b64(private) or None)


@pytest.mark.parametrize(
    ("secrets", "status", "message"),
    [
        (
            {"nope": {"Key": b64(KEY)}},
            500,
            "secret manifest specifies a secret which the original manifest does not contain",
        ),
        ({"shared": {"Key": b64(KEY)}}, 500, "secret shared is not writeable"),
        ({"uploaded": {"Key": b64(KEY[:-1])}}, 500, "declared size and actual size don't match: uploaded"),
        ({"uploaded": {}}, 500, "declared size and actual size don't match: uploaded"),
        ({"uploaded": None}, 500, "declared size and actual size don't match: uploaded"),
        ({"uploaded": {"Key": b64(KEY), "Private": b64(KEY)}}, 500, "secret uploaded has a certificate or private key"),
        ({"badge": {"Key": b64(KEY)}}, 500, "secret badge has a key"),
        ({"badge": {"Cert": b64(KEY)}}, 400, "field Cert is not an X.509 certificate in DER"),
        ({"badge": {"Cert": "!"}}, 400, "field Cert is not base64"),
        ({"badge": 7}, 400, "field of the map is of the wrong type"),
        ([], 400, "field secrets is of the wrong type"),
    ],
)
async def test_uploads_that_do_not_fit(alice, secrets, status, message):
    got, answer = await alice.post("/api/v2/secrets", {"secrets": secrets})
    assert (got, answer["status"]) == (status, "fail" if status == 400 else "error")
    assert answer["message"].startswith(message)
    if isinstance(secrets, dict):
        got, old = await alice.post("/secrets", secrets)
        assert (got, old) == (400, answer | {"status": "error"})
    assert (await alice.data("/secrets?s=uploaded"))["uploaded"]["Private"] is None
    assert len((await alice.data("/api/v2/update"))["updateLog"]) == 1


async def test_what_follows_is_ignored_in_the_new_version_only(alice):
    content = json.dumps({"secrets": {"uploaded": {"Key": b64(KEY)}}}).encode()
    assert (await alice.post("/api/v2/secrets", content + b"}"))[0] == 200
    content = json.dumps({"uploaded": {"Key": b64(KEY)}}).encode()
    assert (await alice.post("/secrets", content + b"}"))[0] == 400
    assert (await alice.post("/secrets", content + b" \n"))[0] == 200


async def test_each_upload_is_in_the_log(alice):
    await set_secrets(alice, uploaded={"Key": b64(KEY)}, note={"Key": b64(b"note")})
    entries = [json.loads(line) for line in (await alice.data("/api/v2/update"))["updateLog"]]
    assert [{name: entry[name] for name in list(entry)[1:]} for entry in entries[1:]] == [
        {"update": "Secret set", "user": "alice", "secret": "note", "type": "plain"},
        {"update": "Secret set", "user": "alice", "secret": "uploaded", "type": "symmetric-key"},
    ]


@pytest.mark.parametrize(("path", "status"), [("/api/v2/secrets", 500), ("/secrets", 400)])
async def test_what_users_may_not_read(start, path, status):
    """One name too many is enough; what does not exist is refused in the same words."""
    message = "user bob is not allowed to read one or more secrets of: "
    async with start() as coordinator, client_of(coordinator, api_user("bob").tls()) as client:
        await set_manifest(coordinator, manifest_of_users())
        for query, names in (("s=note", "[note]"), ("s=b&s=a", "[b a]")):
            got, answer, response = await client.ask("GET", f"{path}?{query}")
            assert (got, answer["status"], answer["message"]) == (status, "error", message + names)
            assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        got, answer = await client.post("/api/v2/secrets", {"secrets": {"note": {"Key": "AA=="}}})
        assert (got, answer["message"]) == (500, "user bob is not allowed to update secret: note")


async def test_an_expired_certificate_is_still_its_users(start):
    async with start() as coordinator, client_of(coordinator, api_user("carol").tls()) as client:
        await set_manifest(coordinator, manifest_of_users())
        assert await set_secrets(client, note={"Key": b64(b"x")}) == (200, None)
        _, answer, _ = await client.ask("GET", "/api/v2/secrets?s=note&s=shared")
        assert answer["message"] == "user carol is not allowed to read one or more secrets of: [note shared]"


async def test_a_value_that_a_template_cannot_take_is_refused(start):
    marbles = {"bookstore": {"Package": "bookstore", "Parameters": {"Env": {"NOTE": "{{ string .Secrets.note }}"}}}}
    async with start() as coordinator, client_of(coordinator, api_user("alice").tls()) as client:
        await set_manifest(coordinator, manifest_of_users(Marbles=marbles))
        status, message = await set_secrets(client, note={"Key": b64(b"a\x00b")})
        assert (status, "Marbles.bookstore.Parameters.Env.NOTE" in str(message)) == (500, True)
        assert await set_secrets(client, note={"Key": b64(b"ab")}) == (200, None)


async def test_uploads_survive_a_restart_and_reach_marbles(start, bookstore):
    marbles = {"bookstore": {"Package": "bookstore", "Parameters": {"Env": {"NOTE": "{{ string .Secrets.note }}"}}}}
    async with start() as coordinator, client_of(coordinator, api_user("alice").tls()) as client:
        await set_manifest(coordinator, manifest_of_users(Marbles=marbles))
        await set_secrets(client, note={"Key": b64(b"remember")})
    async with start() as coordinator:
        assert (await bookstore().activate(coordinator.mesh_port)).Env["NOTE"] == b"remember"
