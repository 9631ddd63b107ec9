from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import ssl

import pytest
from coordinators import COORDINATOR, certificates, client_of, manifest, set_manifest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from independent_marble import IndependentMarble
from raw_connection import closed_by_peer, connected

from confidential_bookstore.attestation.binding import coordinator_report_data
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.errors import PlatformError
from coordinator.transport.listener import Limits


async def test_status_in_both_versions(start, verifier):
    async with start() as coordinator, client_of(coordinator) as client:
        assert await client.data("/api/v2/status") == {
            "code": 2,
            "message": "Coordinator is ready to accept a manifest.",
            "attestation": {
                "platform": "simulated",
                "trustRoot": verifier.root.key_id,
                "simulated": True,
                "marblesWithoutQuote": False,
            },
        }
        await set_manifest(coordinator, manifest())
        assert await client.data("/status") == {
            "StatusCode": 3,
            "StatusMessage": "Coordinator is running correctly and ready to accept marbles.",
        }


async def test_the_quote_binds_the_root_to_the_code(client, verifier):
    data = await client.data("/api/v2/quote")
    intermediate, root = certificates(data["cert"].encode())
    intermediate.verify_directly_issued_by(root)
    root_der = root.public_bytes(Encoding.DER)
    claims = await verifier.verify(base64.b64decode(data["quote"]), coordinator_report_data(root_der))
    Package(unique_id=COORDINATOR.mr_enclave.hex()).check(claims)
    assert claims.simulated


async def test_the_server_shows_the_root_itself(client):
    root = certificates((await client.data("/api/v2/quote"))["cert"].encode())[1]
    async with connected(client.port, IndependentMarble("any", bytes).tls(show_certificate=False)) as (_, writer):
        assert writer.get_extra_info("ssl_object").getpeercert(binary_form=True) == root.public_bytes(Encoding.DER)


async def test_without_a_nonce_the_quote_is_kept_with_one_it_is_fresh(client, verifier):
    assert (await client.data("/api/v2/quote"))["quote"] == (await client.data("/api/v2/quote"))["quote"]
    nonce = b"\xff\xfe\xfd\xfc"  # base64url has - and _ here
    data = await client.data(f"/api/v2/quote?nonce={base64.urlsafe_b64encode(nonce).decode()}")
    root_der = certificates(data["cert"].encode())[1].public_bytes(Encoding.DER)
    await verifier.verify(base64.b64decode(data["quote"]), coordinator_report_data(root_der, nonce))


@pytest.mark.parametrize("nonce", ["a", "a%2Fb%2F", "%C3%A4", "ab=c"])
async def test_a_nonce_that_is_no_base64url(client, nonce):
    status, body, response = await client.ask("GET", f"/api/v2/quote?nonce={nonce}")
    assert status == 400
    assert response.headers["Content-Type"] == "application/json"
    assert body["status"] == "fail"
    assert body["message"].startswith("invalid query: bad nonce format: ")


async def test_the_manifest_comes_back_as_it_went_in_and_signed(start):
    raw = b" " + manifest() + b"\n"
    async with start() as coordinator, client_of(coordinator) as client:
        status, body, _ = await client.ask("GET", "/api/v2/manifest")
        assert (status, body) == (500, {"status": "error", "data": None, "message": "requested value not set"})
        assert await client.set_manifest(raw) == (
            200,
            {"status": "success", "data": {"RecoverySecrets": {}}},
        )
        data = await client.data("/api/v2/manifest")
        root = certificates((await client.data("/api/v2/quote"))["cert"].encode())[1]
    assert base64.b64decode(data["manifest"]) == raw
    assert data["manifestFingerprint"] == hashlib.sha256(raw).hexdigest()
    signature = base64.b64decode(data["manifestSignatureRootECDSA"])
    root.public_key().verify(signature, raw, ec.ECDSA(hashes.SHA256()))


async def test_a_manifest_is_set_once(client):
    status, body, response = await client.ask("POST", "/api/v2/manifest", data=posting(manifest()))
    assert (status, body["status"], body["message"]) == (500, "error", "server is not in expected state")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_second_manifest_is_not_even_read(client):
    """Else anybody could have the coordinator make the keys of a manifest that it refuses anyway."""
    assert (await client.set_manifest(b"no manifest"))[1]["message"] == "server is not in expected state"


def posting(raw: bytes) -> bytes:
    return json.dumps({"manifest": base64.b64encode(raw).decode()}).encode()


async def test_of_several_at_the_same_time_one_wins(start):
    manifests = [manifest(Marbles={f"marble{n}": {"Package": "bookstore"}}) for n in range(6)]
    async with start() as coordinator, client_of(coordinator) as client:
        answers = await asyncio.gather(*(client.set_manifest(raw) for raw in manifests))
        (winner,) = [raw for raw, (status, _) in zip(manifests, answers, strict=True) if status == 200]
        assert {body["message"] for status, body in answers if status != 200} == {"server is not in expected state"}
        assert base64.b64decode((await client.data("/api/v2/manifest"))["manifest"]) == winner
    async with start() as coordinator, client_of(coordinator) as client:
        assert base64.b64decode((await client.data("/api/v2/manifest"))["manifest"]) == winner


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "EOF"),
        (b"{", 400, "request body is not JSON"),
        (b"[]", 400, "request body is of the wrong type: got a list"),
        (b'{"manifest": "!"}', 400, "field manifest is not base64"),
        (b'{"manifest": 7}', 400, "field manifest is of the wrong type"),
        (b"[" * 100_000, 400, "request body is not JSON"),
        (b"{}", 500, ""),
        (b"null", 500, ""),
        (posting(b"{}"), 500, ""),
        (posting(b"[" * 1000), 500, ""),
        (posting(manifest(Marbles={"bookstore": {"Package": "nowhere"}})), 500, "Marbles.bookstore.Package"),
        (posting(manifest(Packages={"p": {"SignerID": "zz"}})), 500, "Packages.p.SignerID"),
    ],
)
async def test_malformed_manifests_are_refused_and_nothing_changes(start, body, status, message):
    async with start() as coordinator, client_of(coordinator) as client:
        got, answer, _ = await client.ask("POST", "/api/v2/manifest", data=body)
        assert got == status, answer
        assert answer["status"] == ("fail" if status == 400 else "error")
        assert answer["message"].startswith(message)
        assert (await client.data("/api/v2/status"))["code"] == 2
        await set_manifest(coordinator, manifest())


async def test_go_clients_may_write_it_differently(start):
    raw = manifest()
    body = json.dumps({"other": 1, "MANIFEST": list(raw)}).encode() + b"anything"
    async with start() as coordinator, client_of(coordinator) as client:
        status, answer, _ = await client.ask("POST", "/api/v2/manifest", data=body)
        assert status == 200, answer


async def test_a_body_that_is_too_long(client):
    status, body, _ = await client.ask("POST", "/api/v2/manifest", data=io.BytesIO(bytes((2 << 20) + 1)))
    assert (status, body["status"]) == (413, "fail")


async def test_who_asks_before_sending_a_body_is_told_to(client):
    """As curl does with long ones."""
    async with connected(client.port, IndependentMarble("any", bytes).tls(show_certificate=False)) as (reader, writer):
        head = b"POST /api/v2/manifest HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
        writer.write(head + b"Expect: 100-continue\r\n\r\n")
        assert await asyncio.wait_for(reader.readline(), 5) == b"HTTP/1.1 100 Continue\r\n"
        writer.write(b"{}")
        assert b"HTTP/1.1 500 Internal Server Error" in await closed_by_peer(reader)


async def test_an_endless_body_ends_the_connection(client):
    async with connected(client.port, IndependentMarble("any", bytes).tls(show_certificate=False)) as (reader, writer):
        writer.write(b"POST /api/v2/manifest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")

        async def flood():
            while True:
                writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                await asyncio.sleep(0.001)

        flooding = asyncio.create_task(flood())
        await closed_by_peer(reader, 10)
        flooding.cancel()
    assert (await client.data("/api/v2/status"))["code"] == 3


async def test_stalled_requests_are_dropped_while_others_are_served(start):
    impatient = Limits(request_seconds=1, handshake_seconds=1, request_bytes=3 << 20)
    async with start(client_limits=impatient) as coordinator, client_of(coordinator) as client:
        tls = IndependentMarble("any", bytes).tls(show_certificate=False)
        stalled = [b"", b"GET /api/v2/sta", b"POST /api/v2/manifest HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"]

        async def stall(beginning: bytes) -> None:
            async with connected(coordinator.client_port, tls) as (reader, writer):
                writer.write(beginning)
                await closed_by_peer(reader, 8)

        stalling = [asyncio.create_task(stall(beginning)) for beginning in stalled]
        await asyncio.sleep(0.3)
        assert (await client.data("/api/v2/status"))["code"] == 2
        await asyncio.gather(*stalling)


async def test_a_connection_may_carry_many_requests(client):
    """The guard counts from one answer to the next."""
    for _ in range(30):
        await client.data("/api/v2/manifest")
    body = posting(b" " * 1_000_000)
    for _ in range(4):
        assert (await client.ask("POST", "/api/v2/manifest", data=io.BytesIO(body)))[0] == 500


async def test_a_client_certificate_is_welcome_and_not_checked(client):
    async with connected(client.port, IndependentMarble("any", bytes).tls()) as (reader, writer):
        writer.write(b"GET /api/v2/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await closed_by_peer(reader)).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_restart_keeps_roots_manifest_and_secrets(start, bookstore):
    async with start() as coordinator, client_of(coordinator) as client:
        before_manifest = (await client.data("/api/v2/quote"))["cert"]
    async with start() as coordinator, client_of(coordinator) as client:
        assert (await client.data("/api/v2/status"))["code"] == 2
        await set_manifest(coordinator, manifest())
        first = await client.data("/api/v2/manifest")
        parameters = await (marble := bookstore()).activate(coordinator.mesh_port)
    async with start({"dns_names": ("other.example",)}) as coordinator, client_of(coordinator) as client:
        assert (await client.data("/api/v2/status"))["code"] == 3
        assert (await client.data("/api/v2/quote"))["cert"] == before_manifest
        assert await client.data("/api/v2/manifest") == first
        again = await marble.activate(coordinator.mesh_port)
    assert again.Env["OWN"] == parameters.Env["OWN"]
    assert again.Files["/etc/shared"] == parameters.Files["/etc/shared"]
    for root in ("MARBLE_PREDEFINED_ROOT_CA", "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"):
        assert again.Env[root] == parameters.Env[root]


async def test_on_another_machine_it_waits_for_recovery_and_loses_nothing(start, settings):
    from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform

    async with start() as coordinator:
        await set_manifest(coordinator, manifest())
    sealed = {path.name: path.read_bytes() for path in settings.seal_directory.iterdir()}
    other = InProcessPlatform(SimulatedPlatform.create(), COORDINATOR)
    async with start(platform=other) as coordinator, client_of(coordinator) as client:
        status = await client.data("/api/v2/status")
        assert status["code"] == 1
        assert status["message"] == (
            "Coordinator is in recovery mode. Either upload a key to unseal the saved state, or set a new manifest. "
            "For more information on how to proceed, consult the documentation."
        )
    assert {path.name: path.read_bytes() for path in settings.seal_directory.iterdir()} == sealed


async def test_a_platform_that_does_not_quote_is_no_place_for_a_coordinator(start, machine):
    class Mute:
        name = "mute"
        sealing_key = staticmethod(InProcessPlatform(machine, COORDINATOR).sealing_key)
        raise_counter = staticmethod(InProcessPlatform(machine, COORDINATOR).raise_counter)

        def quote(self, report_data):
            raise PlatformError("no quote")

    with pytest.raises(PlatformError, match="no quote"):
        async with start(platform=Mute()):
            pass


async def test_a_manifest_that_cannot_be_sealed_is_not_in_force(start, settings):
    async with start() as coordinator, client_of(coordinator) as client:
        settings.seal_directory.rename(settings.seal_directory.with_suffix(".gone"))
        settings.seal_directory.write_bytes(b"a file where the directory was")
        status, body = await client.set_manifest(manifest())
        assert (status, body["status"]) == (500, "error")
        assert (await client.data("/api/v2/status"))["code"] == 2
        settings.seal_directory.unlink()
        settings.seal_directory.with_suffix(".gone").rename(settings.seal_directory)
        await set_manifest(coordinator, manifest())


async def test_old_tls_is_refused(client):
    tls = IndependentMarble("any", bytes).tls(show_certificate=False)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("ECDHE-ECDSA-AES256-SHA384")
    with pytest.raises(ssl.SSLError):
        async with connected(client.port, tls):
            pass
