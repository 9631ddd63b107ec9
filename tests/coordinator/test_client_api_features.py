"""What a manifest switches on, signing quotes and marbles' counters; and generations, for which to wait."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import datetime as dt
import json
import struct
import time
import uuid
from typing import Any

import pytest
from api_users import api_user, manifest_of_users, showing
from coordinators import BOOKSTORE, STRANGER, Client, certificates, client_at, client_of, page, set_manifest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from confidential_bookstore.pki.names import MARBLE_TYPE_OID
from coordinator.client_api import generations

COUNTER, SIGN = "/api/v2/monotonic-counter", "/api/v2/sign-quote"
GATES = {"Config": {"FeatureGates": ["SignQuoteEndpoint", "MonotonicCounter"]}}
UNKNOWN_ISSUER = "unauthorized marble: x509: certificate signed by unknown authority"
RAISE = json.dumps({"Packages": {"bookstore": {"SecurityVersion": 3}}}).encode()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.fixture
async def coordinator(start):
    async with start() as running:
        await set_manifest(running, manifest_of_users(**GATES))
        yield running


async def activated(coordinator, marble) -> Any:
    """TLS with the certificate that the coordinator has given to the marble."""
    environment = (await marble.activate(coordinator.mesh_port)).Env
    chain = environment["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"]
    return showing(chain + environment["MARBLE_PREDEFINED_PRIVATE_KEY"])


async def count(client: Client, value: int, name: str = "n") -> int:
    status, answer = await client.post(COUNTER, {"name": name, "value": value})
    assert status == 200, answer
    assert list(answer["data"]) == ["value"]
    return answer["data"]["value"]


async def test_a_counter_never_falls(coordinator, bookstore):
    async with client_of(coordinator, await activated(coordinator, bookstore())) as marble:
        assert [await count(marble, value) for value in (5, 3, 7, 7, 0)] == [0, 5, 5, 7, 7]
        assert await count(marble, 1, "another") == 0


async def test_a_counter_is_exact_to_its_last_bit(coordinator, bookstore):
    async with client_of(coordinator, await activated(coordinator, bookstore())) as marble:
        for value in (2**53 + 1, 2**64 - 2, 2**64 - 1):
            await count(marble, value)
            content = f'{{"name":"n","value":{value}}}'.encode()
            assert (await marble.raw("POST", COUNTER, content))[2] == (
                f'{{"status":"success","data":{{"value":{value}}}}}\n'.encode()
            )


async def test_a_counter_belongs_to_one_marble_and_survives_its_restart(start, bookstore):
    marble = bookstore()
    async with start() as coordinator:
        await set_manifest(coordinator, manifest_of_users(**GATES))
        async with client_of(coordinator, await activated(coordinator, marble)) as client:
            await count(client, 5)
        async with client_of(coordinator, await activated(coordinator, bookstore())) as other:
            assert await count(other, 1) == 0
        async with client_of(
            coordinator, await activated(coordinator, bookstore("limited", uuid=marble.uuid))
        ) as other:
            assert await count(other, 2) == 0
    async with start() as coordinator, client_of(coordinator, await activated(coordinator, marble)) as client:
        assert await count(client, 6) == 5


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 400, "EOF"),
        (b'{"name":"n","value":-1}', 400, "field value is out of range"),
        (b'{"name":"n","value":18446744073709551616}', 400, "field value is out of range"),
        (b'{"name":"n","value":1.0}', 400, "field value is out of range"),
        (b'{"name":"n","value":"1"}', 400, "field value is of the wrong type"),
        (b'{"name":7,"value":1}', 400, "field name is of the wrong type"),
        (json.dumps({"name": "n" * 257, "value": 1}).encode(), 500, "name of the counter is too long"),
        (json.dumps({"name": "n" * 5000, "value": 1}).encode(), 413, "request body is larger than 4096 bytes"),
    ],
)
async def test_what_is_no_counter(coordinator, bookstore, content, status, message):
    async with client_of(coordinator, await activated(coordinator, bookstore())) as marble:
        got, answer = await marble.post(COUNTER, content)
        assert (got, answer["message"].startswith(message)) == (status, True), answer
        assert answer["status"] == ("error" if status == 500 else "fail")


async def test_who_is_no_marble(coordinator):
    """The certificate is looked at before the body, and each answer is byte for byte MarbleRun's."""
    nobody = "unauthorized marble: client certificate did not match any Marble"
    for tls, message in ((None, nobody), (api_user("alice").tls(), UNKNOWN_ISSUER)):
        async with client_of(coordinator, tls) as client:
            answer = f'{{"status":"fail","data":null,"message":"{message}"}}\n'.encode()
            assert await client.raw("POST", COUNTER) == (401, "application/json", answer)


async def test_a_marble_of_another_coordinator_is_a_stranger(coordinator, start, bookstore, tmp_path):
    async with start(settings_={"seal_directory": tmp_path / "other"}) as other:
        await set_manifest(other, manifest_of_users(**GATES))
        tls = await activated(other, bookstore())
    async with client_of(coordinator, tls) as client:
        status, answer = await client.post(COUNTER, {"name": "n", "value": 1})
        assert (status, answer["message"]) == (401, UNKNOWN_ISSUER)


async def test_a_secret_is_no_marble(coordinator):
    """Certificates of secrets are issued by the key that issues those of marbles."""
    async with client_of(coordinator, api_user("alice").tls()) as alice:
        secret = (await alice.data("/api/v2/secrets?s=certificate"))["secrets"]["certificate"]
    key = serialization.load_der_private_key(base64.b64decode(secret["Private"]), None)
    certificate = x509.load_der_x509_certificate(base64.b64decode(secret["Cert"]))
    async with client_of(coordinator, showing(pem(certificate, key))) as client:
        status, answer = await client.post(COUNTER, {"name": "n", "value": 1})
        assert (status, answer["message"]) == (401, "unauthorized marble: certificate has no marble type")


def pem(certificate, key) -> bytes:
    kind = serialization.PrivateFormat.PKCS8
    return certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, kind, serialization.NoEncryption())


@pytest.mark.parametrize("odd", ["version", "time"])
async def test_a_certificate_that_cannot_be_read(coordinator, odd):
    """It belongs to nobody, and is in nobody's way."""
    user = api_user("alice")
    der = bytearray(user.der)
    if odd == "version":
        der[der.index(b"\xa0\x03\x02\x01\x02") + 4] = 7
    else:
        der[der.index(b"\x17\x0d") + 2] = ord("x")
    key = pem(user.certificate, user.key).partition(b"-----END CERTIFICATE-----\n")[2]
    armoured = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    async with client_of(coordinator, showing(armoured + key)) as client:
        assert (await client.data("/api/v2/status"))["code"] == 3
        assert (await client.post("/api/v2/secrets", {}))[0] == 401
        status, answer = await client.post(COUNTER, {"name": "n", "value": 1})
        assert (status, answer["message"]) == (401, "unauthorized marble: certificate cannot be read")


async def test_a_ca_below_the_marble_root_makes_no_marbles(start):
    secrets = {"certificate": {"Type": "cert-ecdsa", "Size": 256, "Shared": True, "Cert": {"IsCA": True}}}
    roles = {"reader": {"ResourceType": "Secrets", "ResourceNames": ["certificate"], "Actions": ["ReadSecret"]}}
    users = {"alice": {"Certificate": api_user("alice").pem, "Roles": ["reader"]}}
    marbles = {"bookstore": {"Package": "bookstore"}}
    async with start() as coordinator, client_of(coordinator, api_user("alice").tls()) as alice:
        await set_manifest(
            coordinator, manifest_of_users(Secrets=secrets, Roles=roles, Users=users, Marbles=marbles, **GATES)
        )
        secret = (await alice.data("/secrets?s=certificate"))["certificate"]
        ca_key = serialization.load_der_private_key(base64.b64decode(secret["Private"]), None)
        ca = x509.load_der_x509_certificate(base64.b64decode(secret["Cert"]))
        marble = forged(ca, ca_key)
        async with client_of(coordinator, showing(pem(*marble) + pem(ca, ca_key))) as client:
            status, answer = await client.post(COUNTER, {"name": "n", "value": 1})
            assert (status, answer["message"]) == (401, UNKNOWN_ISSUER)


def forged(issuer, issuer_key):
    """Says that it is a marble."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(uuid.uuid4()))])
    builder = x509.CertificateBuilder(issuer.subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    builder = builder.add_extension(x509.UnrecognizedExtension(MARBLE_TYPE_OID, b"bookstore"), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()), key


async def test_marbles_of_generations_that_are_still_accepted(coordinator, bookstore):
    """After an update the old certificate is good for the time in which a marble renews, and not longer."""
    tls = await activated(coordinator, bookstore())
    async with client_of(coordinator, tls) as marble, client_of(coordinator, api_user("alice").tls()) as alice:
        await count(marble, 5)
        assert (await alice.post("/update", RAISE))[0] == 200
        assert await count(marble, 6) == 5
        report = await marble.data("/api/v2/generations")
        (previous,) = report["previous"]
        assert (report["generation"], previous["generation"]) == (1, 0)
        assert 0 < previous["revoked"]["bookstore"] - time.time() <= 5


async def test_when_a_marble_is_one(start, bookstore):
    """Until its certificate ends, and in an old generation until that ends for its type."""
    passed = dt.timedelta(0)
    async with start(clock=lambda: dt.datetime.now(dt.UTC) + passed) as coordinator:
        await set_manifest(coordinator, manifest_of_users(**GATES))
        async with (
            client_of(coordinator, await activated(coordinator, bookstore())) as old,
            client_of(coordinator, api_user("alice").tls()) as alice,
        ):
            assert (await alice.post("/update", RAISE))[0] == 200
            assert await count(old, 5) == 0
            passed = dt.timedelta(seconds=6)
            status, answer = await old.post(COUNTER, {"name": "n", "value": 1})
            assert (status, answer["message"]) == (401, UNKNOWN_ISSUER)
            updated = bookstore(identity=dataclasses.replace(BOOKSTORE, security_version=3))
            async with client_of(coordinator, await activated(coordinator, updated)) as new:
                assert await count(new, 1) == 0
                for days in (2, -2):
                    passed = dt.timedelta(days=days)
                    status, answer = await new.post(COUNTER, {"name": "n", "value": 1})
                    expired = "unauthorized marble: x509: certificate has expired or is not yet valid"
                    assert (status, answer["message"]) == (401, expired)


async def signed(client: Client, quote: bytes) -> tuple[int, Any]:
    return await client.post(SIGN, {"sgxQuote": b64(quote)})


async def test_any_genuine_quote_is_signed(coordinator, machine):
    """Of whatever code and key: what is signed is that it verifies, and the status of its machine."""
    quote = machine.quote_sgx(STRANGER, bytes(64))
    behind_header = struct.pack("<IIQ", 1, 2, len(quote)) + quote
    async with client_of(coordinator) as client:
        root = certificates((await client.data("/api/v2/quote"))["cert"].encode())[1]
        for sent in (quote, behind_header):
            status, answer = await signed(client, sent)
            assert (status, list(answer["data"])) == (200, ["tcbStatus", "verificationSignature"])
            assert answer["data"]["tcbStatus"] == "UpToDate"
            signature = base64.b64decode(answer["data"]["verificationSignature"])
            message = base64.b64encode(sent) + b"UpToDate"
            root.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))


async def test_what_is_not_signed(coordinator, machine):
    from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform

    quote = bytearray(machine.quote_sgx(STRANGER, bytes(64)))
    quote[400] ^= 1
    foreign = SimulatedPlatform.create().quote_sgx(STRANGER, bytes(64))
    async with client_of(coordinator) as client:
        for sent in (bytes(quote), foreign, b"no quote"):
            status, answer = await signed(client, sent)
            assert (status, answer["status"]) == (500, "error")
            assert answer["message"].startswith("quote verification failed: ")
        message = "field sgxQuote is empty"
        answer = f'{{"status":"fail","data":{{"sgxQuote":"{message}"}},"message":"{message}"}}\n'.encode()
        for content in (b"{}", b"null", b'{"sgxQuote":""}'):
            assert await client.raw("POST", SIGN, content) == (400, "application/json", answer)
        assert (await client.post(SIGN, b""))[1]["message"] == "EOF"
        assert (await client.post(SIGN, bytes((128 << 10) + 1)))[0] == 413


async def test_without_a_verifier_no_quote_is_signed(start, machine):
    async with start(settings_={"interoperability": True}, platform=None, verifier=None) as coordinator:
        await set_manifest(coordinator, manifest_of_users(**GATES))
        async with client_of(coordinator) as client:
            assert await client.raw("POST", SIGN, json.dumps({"sgxQuote": "AAAA"}).encode()) == (
                500,
                "text/plain; charset=utf-8",
                b'{"status":"error","data":null,"message":"quote verification failed: OE_UNSUPPORTED"}\n',
            )
            for path, name in (("/api/v2/quote", "quote"), ("/quote", "Quote"), ("/api/v2/quote?nonce=AAAA", "quote")):
                assert (await client.data(path))[name] is None
            attestation = (await client.data("/api/v2/status"))["attestation"]
            assert attestation == {
                "platform": "none",
                "trustRoot": "",
                "simulated": True,
                "marblesWithoutQuote": True,
            }


async def test_whoever_knows_the_generation_waits_for_the_next(coordinator):
    async with client_of(coordinator, api_user("alice").tls()) as alice:
        first = await alice.data("/api/v2/generations")
        assert list(first) == ["generation", "marbleRoot", "previous"]
        assert (first["generation"], first["previous"]) == (0, [])
        waiting = asyncio.create_task(alice.data("/api/v2/generations?known=0"))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        assert (await alice.post("/update", RAISE))[0] == 200
        second = await asyncio.wait_for(waiting, 5)
        assert (second["generation"], second["previous"][0]["marbleRoot"]) == (1, first["marbleRoot"])
        assert await asyncio.wait_for(alice.data("/api/v2/generations?known=0"), 5) == second


async def test_waiting_has_an_end(coordinator, monkeypatch):
    monkeypatch.setattr(generations, "LONGEST_WAIT", 0.3)
    async with client_of(coordinator) as client:
        began = time.monotonic()
        assert (await client.data("/api/v2/generations?known=0"))["generation"] == 0
        assert 0.3 <= time.monotonic() - began < 5


async def test_only_so_many_may_wait(coordinator, monkeypatch):
    monkeypatch.setattr(generations, "MOST_WAITING", 1)
    async with client_of(coordinator) as client:
        waiting = asyncio.create_task(client.data("/api/v2/generations?known=0"))
        await asyncio.sleep(0.3)
        assert (await asyncio.wait_for(client.data("/api/v2/generations?known=0"), 5))["generation"] == 0
        assert not waiting.done()
        waiting.cancel()


async def test_those_who_wait_do_not_hold_up_the_end(start):
    async with start() as coordinator:
        client_port = coordinator.client_port
        async with client_at(client_port) as client:
            waiting = asyncio.create_task(client.data("/api/v2/generations?known=0"))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            await coordinator.__aexit__(None, None, None)
            assert time.monotonic() - began < 5
            assert (await waiting)["generation"] == 0


@pytest.mark.parametrize("known", ["", "-1", "x", "1.0", "9" * 19])
async def test_what_is_no_generation(client, known):
    status, answer, _ = await client.ask("GET", f"/api/v2/generations?known={known}")
    assert (status, answer["status"]) == (400, "fail")
    assert answer["message"].startswith("invalid query: known is not a generation")


async def test_every_request_is_measured(coordinator):
    async with client_of(coordinator) as client:
        await client.ask("GET", "/api/v2/status")
        await client.ask("POST", "/nowhere")
        await client.ask("POST", "/api/v2/manifest", data=b"")
    _, text = await page(coordinator.status_port, "/metrics")
    counted = [line for line in text.splitlines() if line.startswith("server_client_api_http_request_total{")]
    assert 'server_client_api_http_request_total{path="/api/v2/status",code="200",method="get"} 1' in counted
    assert 'server_client_api_http_request_total{path="other",code="405",method="post"} 1' in counted
    assert 'server_client_api_http_request_total{path="/api/v2/manifest",code="400",method="post"} 1' in counted
