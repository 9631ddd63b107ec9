"""Every endpoint in every outcome, byte for byte: what MarbleRun's clients are written against."""

from __future__ import annotations

import base64
import json

import pytest
from api_users import ApiUser, api_user, manifest_of_users
from coordinators import client_of, manifest, set_manifest
from raw_connection import closed_by_peer, connected

JSON, TEXT = "application/json", "text/plain; charset=utf-8"
NO_USER = "unauthorized user: client certificate did not match any MarbleRun users"
STATE = "server is not in expected state"
RECOVER_V1 = (
    "Recovering the Coordinator using the /recover API endpoint has been disabled. "
    "Use the /api/v2/recover endpoint instead."
)


def success(data: str) -> tuple[int, str, bytes]:
    return 200, JSON, b'{"status":"success","data":' + data.encode() + b"}\n"


def fail(status: int, message: str, data: str = "null") -> tuple[int, str, bytes]:
    return status, JSON, f'{{"status":"fail","data":{data},"message":{json.dumps(message)}}}\n'.encode()


def error(status: int, message: str) -> tuple[int, str, bytes]:
    return status, TEXT, f'{{"status":"error","data":null,"message":{json.dumps(message)}}}\n'.encode()


def off(feature: str) -> tuple[int, str, bytes]:
    return error(403, f"{feature} feature is not enabled in the manifest")


BEFORE_A_MANIFEST = [
    ("GET", "/api/v2/manifest", error(500, "requested value not set")),
    ("GET", "/manifest", success('{"ManifestSignatureRootECDSA":null,"ManifestSignature":"","Manifest":null}')),
    ("POST", "/api/v2/manifest", fail(400, "EOF")),
    ("GET", "/api/v2/secrets?s=a", fail(401, NO_USER)),
    ("GET", "/secrets?s=a", error(401, NO_USER)),
    ("POST", "/api/v2/secrets", fail(401, NO_USER)),
    ("POST", "/secrets", error(401, NO_USER)),
    ("GET", "/api/v2/update", error(500, STATE)),
    ("GET", "/update", error(500, STATE)),
    ("POST", "/api/v2/update", fail(401, NO_USER)),
    ("POST", "/update", error(401, NO_USER)),
    ("GET", "/api/v2/update-manifest", error(404, "no update in progress")),
    ("GET", "/update-manifest", error(404, "no update in progress")),
    ("POST", "/api/v2/update-manifest", fail(401, NO_USER)),
    ("POST", "/update-manifest", error(401, NO_USER)),
    ("POST", "/api/v2/update-cancel", fail(401, NO_USER)),
    ("POST", "/update-cancel", error(401, NO_USER)),
    ("GET", "/api/v2/recover/public-key", error(500, STATE)),
    ("POST", "/api/v2/recover", fail(400, "EOF")),
    ("POST", "/recover", error(410, RECOVER_V1)),
    ("POST", "/api/v2/sign-quote", off("SignQuoteEndpoint")),
    ("POST", "/api/v2/monotonic-counter", off("MonotonicCounter")),
]


async def test_before_there_is_a_manifest(start):
    """Nobody is a user yet, and no feature is on. Bodies are empty, so certificates are looked at before bodies."""
    tls = api_user("alice").tls()
    async with start() as coordinator, client_of(coordinator, tls) as client:
        for method, path, expected in BEFORE_A_MANIFEST:
            assert await client.raw(method, path) == expected, path
        assert (await client.data("/api/v2/status"))["code"] == 2


FOR_STRANGERS = [
    ("GET", "/api/v2/secrets?s=a", fail(401, NO_USER)),
    ("GET", "/api/v2/secrets", fail(401, NO_USER)),
    ("GET", "/secrets", error(401, NO_USER)),
    ("POST", "/api/v2/secrets", fail(401, NO_USER)),
    ("POST", "/secrets", error(401, NO_USER)),
    ("POST", "/api/v2/update", fail(401, NO_USER)),
    ("POST", "/update", error(401, NO_USER)),
    ("POST", "/api/v2/update-manifest", fail(401, NO_USER)),
    ("POST", "/update-manifest", error(401, NO_USER)),
    ("POST", "/api/v2/update-cancel", fail(401, NO_USER)),
    ("POST", "/update-cancel", error(401, NO_USER)),
    ("POST", "/api/v2/manifest", fail(400, "EOF")),
    ("POST", "/api/v2/recover", fail(400, "EOF")),
    ("POST", "/recover", error(410, RECOVER_V1)),
    ("GET", "/api/v2/recover/public-key", error(500, STATE)),
    ("POST", "/api/v2/sign-quote", off("SignQuoteEndpoint")),
    ("POST", "/api/v2/monotonic-counter", off("MonotonicCounter")),
]


@pytest.mark.parametrize("shown", [None, "a certificate of the same name"])
async def test_for_strangers(start, shown):
    """A certificate is compared whole: one with a user's name is a stranger's."""
    tls = ApiUser.create("alice").tls() if shown else None
    async with start() as coordinator, client_of(coordinator, tls) as client:
        await set_manifest(coordinator, manifest_of_users())
        for method, path, expected in FOR_STRANGERS:
            assert await client.raw(method, path) == expected, path


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


ENCODED = base64.b64encode(b"{}").decode()
FOR_ALICE = [
    ("GET", "/api/v2/secrets", None, fail(400, "invalid query: endpoint requires at least one query parameter")),
    ("GET", "/api/v2/secrets?x=1", None, fail(400, "invalid query: endpoint requires at least one query parameter")),
    ("GET", "/api/v2/secrets?s=", None, fail(400, "malformed query string: empty query parameter")),
    ("GET", "/api/v2/secrets?s=note&s", None, fail(400, "malformed query string: empty query parameter")),
    ("GET", "/secrets", None, error(400, "invalid query: endpoint requires at least one query parameter")),
    ("GET", "/secrets?s=note&s=", None, error(400, "malformed query string: empty query parameter")),
    ("POST", "/api/v2/secrets", b"", fail(400, "EOF")),
    ("POST", "/secrets", b"", error(400, "EOF")),
    ("POST", "/api/v2/secrets", b"{}", error(500, "no new secrets defined")),
    ("POST", "/api/v2/secrets", b"null", error(500, "no new secrets defined")),
    ("POST", "/secrets", b"{}", error(400, "no new secrets defined")),
    ("POST", "/api/v2/update", b"", fail(400, "EOF")),
    ("POST", "/api/v2/update-manifest", b"", fail(400, "EOF")),
    ("POST", "/api/v2/update-manifest", body(manifest=ENCODED), error(404, "no update in progress")),
    ("POST", "/update-manifest", b"{}", error(404, "no update in progress")),
    ("POST", "/api/v2/update-cancel", b"", error(404, "no update in progress")),
    ("POST", "/update-cancel", b"", error(404, "no update in progress")),
    ("GET", "/api/v2/update-manifest", None, error(404, "no update in progress")),
    ("GET", "/update-manifest", None, error(404, "no update in progress")),
    ("POST", "/api/v2/manifest", body(manifest=ENCODED), error(500, STATE)),
    ("POST", "/manifest", b"{}", error(400, STATE)),
    ("POST", "/manifest", b"", error(400, STATE)),
    ("POST", "/api/v2/recover", b"{}", error(500, STATE)),
    ("POST", "/api/v2/recover", body(recoverySecret=list(range(32))), error(500, STATE)),
]


async def test_for_a_user(start):
    async with start() as coordinator, client_of(coordinator, api_user("alice").tls()) as client:
        await set_manifest(coordinator, manifest_of_users())
        for method, path, content, expected in FOR_ALICE:
            assert await client.raw(method, path, content) == expected, path
        assert len((await client.data("/api/v2/update"))["updateLog"]) == 1


async def test_the_old_version_of_quote_and_manifest(start):
    raw = manifest()
    async with start() as coordinator, client_of(coordinator) as client:
        assert await client.raw("POST", "/manifest", b"no manifest") != success("null")
        assert await client.raw("POST", "/manifest", raw) == success("null")
        new, old = await client.data("/api/v2/manifest"), await client.data("/manifest")
        assert list(old) == ["ManifestSignatureRootECDSA", "ManifestSignature", "Manifest"]
        assert list(old.values()) == list(new.values())
        assert base64.b64decode(old["Manifest"]) == raw
        new, old = await client.data("/api/v2/quote"), await client.data("/quote?nonce=!")
        assert (list(old), list(old.values())) == (["Cert", "Quote"], list(new.values()))


async def test_an_invalid_manifest_in_both_versions(start):
    raw = manifest(Marbles={"bookstore": {"Package": "nowhere"}})
    async with start() as coordinator, client_of(coordinator) as client:
        status, answer = await client.post("/api/v2/manifest", {"manifest": base64.b64encode(raw).decode()})
        message = answer["message"]
        assert (status, message.startswith("Marbles.bookstore.Package: ")) == (500, True)
        assert await client.raw("POST", "/manifest", raw) == error(400, message)


ANY_METHOD = [
    ("GET", "/"),
    ("GET", "/api/v2/status/"),
    ("GET", "/api/v2/"),
    ("GET", "/api/v1/status"),
    ("GET", "/API/v2/status"),
    ("GET", "//status"),
    ("GET", "/api/v2/nothing"),
    ("GET", "/%00/../x"),
    ("GET", "/api/v2/sign-quote"),
    ("GET", "/recover"),
    ("GET", "/update-cancel"),
    ("POST", "/api/v2/status"),
    ("POST", "/api/v2/generations"),
    ("POST", "/api/v2/recover/public-key"),
    ("PUT", "/api/v2/manifest"),
    ("DELETE", "/api/v2/manifest"),
    ("OPTIONS", "/api/v2/manifest"),
    ("PATCH", "/secrets"),
    ("PROPFIND", "/status"),
]


async def test_anything_else_is_405(client):
    for method, path in ANY_METHOD:
        expected = 405, TEXT, b'{"status":"error","data":null}\n'
        assert await client.raw(method, path) == expected, (method, path)


async def test_head_is_405_without_a_body(client):
    for path in ("/", "/api/v2/status", "/status"):
        assert await client.raw("HEAD", path) == (405, TEXT, b"")


async def test_the_bytes_on_the_wire(client):
    request = b"GET /manifest/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    async with connected(client.port, api_user("alice").tls()) as (reader, writer):
        writer.write(request)
        head, _, content = (await closed_by_peer(reader)).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 405 Method Not Allowed"
    assert {b"Content-Type: text/plain; charset=utf-8", b"X-Content-Type-Options: nosniff"} <= set(lines)
    assert content == b'{"status":"error","data":null}\n'


async def test_what_a_manifest_says_is_escaped_as_go_does(start):
    raw = manifest(Packages={"<&>": {"SignerID": "zz"}})
    async with start() as coordinator, client_of(coordinator) as client:
        _, _, answer = await client.raw("POST", "/manifest", raw)
    assert b"\\u003c\\u0026\\u003e" in answer
    assert not set(b"<>&") & set(answer)
