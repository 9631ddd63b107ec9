"""MarbleRun's wires and files, from their description alone: protobuf, sealed files and certificates are read by hand.

`test_compatibility_checklist` says what else there is to show, and where it is shown.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_users import api_user, manifest_of_users
from coordinators import Client, certificates, client_of, manifest, page, set_manifest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID
from grpclib.client import UnaryUnaryMethod
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from independent_marble import IndependentMarble
from named_tests import ROOT
from test_hostile_clients import Raw

sys.path.append(str(ROOT / "tests" / "coordinator_core"))
from original_demo_manifest import ORIGINAL_DEMO


def fields_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and contents of the length-delimited fields of a protobuf message."""

    def varint() -> int:
        nonlocal message
        value = shift = 0
        while True:
            byte, message = message[0], message[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while message:
        key = varint()
        assert key & 7 == 2, "not length-delimited"
        size = varint()
        yield key >> 3, message[:size]
        message = message[size:]


def field(number: int, content: bytes) -> bytes:
    """One field of less than 16 kB."""
    size = len(content)
    return bytes([number << 3 | 2, *([size] if size < 0x80 else [size & 0x7F | 0x80, size >> 7])]) + content


async def test_an_activation_byte_by_byte(coordinator, bookstore):
    marble = bookstore()
    bare = marble.quoter(marble.report_data)
    quote = struct.pack("<IIQ", 1, 2, len(bare)) + bare  # Open Enclave's header, which marbles of MarbleRun send along
    parts = (quote, marble.csr(), b"bookstore", marble.uuid.encode())
    request = b"".join(field(number, content) for number, content in enumerate(parts, 1))
    async with marble.channel(coordinator.mesh_port) as channel:
        channel._codec = Raw()
        answer = await UnaryUnaryMethod(channel, "/rpc.Marble/Activate", bytes, bytes)(request, timeout=10)
    [(number, parameters)] = fields_of(answer)
    assert number == 1
    found: dict[int, list[bytes]] = {}
    for number, content in fields_of(parameters):
        found.setdefault(number, []).append(content)
    assert set(found) == {1, 2, 3}
    files, env = (dict(dict(fields_of(entry)).values() for entry in found[number]) for number in (1, 2))
    assert list(files) == [b"/etc/shared"]
    assert env[b"GREETING"] == b"hello"
    assert found[3] == [b"bookstore", b"--serve"]


async def test_codes_and_messages_of_refusals_in_their_order(coordinator, bookstore):
    """Each request has the mistakes of all that come after it."""
    no_request = {"CSR": b"no request"}
    no_uuid = no_request | {"UUID": "none"}
    no_quote = no_uuid | {"Quote": b"no quote"}
    no_type = no_quote | {"MarbleType": "nobody"}
    for mistakes, status, message in (
        (no_type, Status.PERMISSION_DENIED, "marble verification failed: unknown marble type requested"),
        (no_quote, Status.PERMISSION_DENIED, "marble verification failed: invalid quote: "),
        (no_uuid, Status.INVALID_ARGUMENT, "invalid UUID: "),
        (no_request, Status.INTERNAL, "generating marble authentication secrets: "),
    ):
        with pytest.raises(GRPCError) as refused:
            await bookstore().activate(coordinator.mesh_port, **mistakes)
        assert refused.value.status is status
        assert refused.value.message.startswith(message)


async def test_the_mesh_shows_the_marble_root(coordinator, bookstore):
    marble = bookstore()
    parameters = await marble.activate(coordinator.mesh_port)
    async with marble.channel(coordinator.mesh_port) as channel:
        connection = (await channel.__connect__()).connection._transport.get_extra_info("ssl_object")
        shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
        assert connection.selected_alpn_protocol() == "h2"
    assert [shown] == certificates(parameters.Env["MARBLE_PREDEFINED_ROOT_CA"])
    assert shown.subject == shown.issuer


async def test_reserved_variables(start, bookstore):
    """They win over those of the manifest. PEM has lines of 64 characters and ends with a line end."""
    marbles = {"bookstore": {"Package": "bookstore", "Parameters": {"Env": {"MARBLE_PREDEFINED_PRIVATE_KEY": "mine"}}}}
    async with start() as coordinator:
        await set_manifest(coordinator, manifest(Marbles=marbles))
        env = (await bookstore().activate(coordinator.mesh_port)).Env
    blocks = {
        "MARBLE_PREDEFINED_ROOT_CA": ["CERTIFICATE"],
        "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN": ["CERTIFICATE", "CERTIFICATE"],
        "MARBLE_PREDEFINED_PRIVATE_KEY": ["PRIVATE KEY"],
        "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA": ["CERTIFICATE"],
    }
    assert set(env) == set(blocks)
    for name, labels in blocks.items():
        lines = env[name].decode().split("\n")
        assert re.findall("-----BEGIN (.*)-----", env[name].decode()) == labels
        assert lines.pop() == ""
        for line, following in itertools.pairwise(lines):
            if not line.startswith("-----"):
                assert len(line) == 64 or following.startswith("-----END")
    leaf, intermediate = certificates(env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])
    (root,) = certificates(env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"])
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    key = serialization.load_pem_private_key(env["MARBLE_PREDEFINED_PRIVATE_KEY"], None)
    assert (key.curve.name, key.public_key()) == ("secp384r1", leaf.public_key())


def common_name(text: str) -> bytes:
    """DER of a name that is one RDN of one UTF8String."""
    encoded = bytes([0x06, 3, 0x55, 4, 3, 0x0C, len(text)]) + text.encode()
    for tag in (0x30, 0x31, 0x30):
        encoded = bytes([tag, len(encoded)]) + encoded
    return encoded


async def test_names_and_the_marble_type_in_der(coordinator, bookstore):
    """EdgelessDB compares the whole issuer; verifiers of MarbleRun read the extension as it is."""
    marble = bookstore(uuid="0A4A9B60-5E1C-4F0F-8E43-6D0F0D3C2B11")
    env = (await marble.activate(coordinator.mesh_port)).Env
    leaf, intermediate = certificates(env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])
    (root,) = certificates(env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"])
    intermediate_name = common_name("MarbleRun Coordinator - Intermediate CA")
    assert root.subject.public_bytes() == root.issuer.public_bytes() == common_name("MarbleRun Coordinator")
    assert intermediate.subject.public_bytes() == leaf.issuer.public_bytes() == intermediate_name
    assert leaf.subject.public_bytes() == common_name("0a4a9b60-5e1c-4f0f-8e43-6d0f0d3c2b11")
    oid = bytes.fromhex("06052bcd2f0201")  # 1.3.9903.2.1
    assert oid + b"\x04\x09bookstore" in leaf.public_bytes(serialization.Encoding.DER)
    for certificate in (root, intermediate, leaf):
        assert certificate.signature_algorithm_oid == SignatureAlgorithmOID.ECDSA_WITH_SHA384


@pytest.fixture
async def without_quotes(start):
    """As MarbleRun is in simulation."""
    async with start(settings_={"interoperability": True}, platform=None, verifier=None) as coordinator:
        yield coordinator


def quoteless(marble_type: str) -> IndependentMarble:
    return IndependentMarble(marble_type, lambda _: b"")


def open_sealed(directory: Path) -> dict[str, bytes]:
    """The records that a coordinator without an enclave keeps, whose key lies beside them."""
    data, key = (directory / "sealed_data").read_bytes(), (directory / "sealed_key").read_bytes()
    assert len(key) == 32
    (size,) = struct.unpack_from("<I", data)
    assert json.loads(data[4 : 4 + size]) is None
    box = data[4 + size :]
    plain = json.loads(AESGCM(key).decrypt(box[:12], box[12:], None))
    return {name: base64.b64decode(value) for name, value in plain.items()}


async def test_a_unique_key_follows_from_the_sealed_root_secret(without_quotes, settings):
    """HKDF-SHA256, salted with UUID and name; the info is the type, or nothing if that is switched off."""
    parameters = {"Env": {"OWN": "{{ hex .Secrets.own }}"}}
    marbles = {
        "bookstore": {"Package": "bookstore", "Parameters": parameters},
        "unbound": {"Package": "bookstore", "DisableSecretBinding": True, "Parameters": parameters},
    }
    await set_manifest(without_quotes, manifest(Marbles=marbles))
    records = open_sealed(settings.seal_directory)
    assert records["state"] == b"3"
    for marble_type, info in (("bookstore", b"bookstore"), ("unbound", b"")):
        marble = quoteless(marble_type)
        env = (await marble.activate(without_quotes.mesh_port)).Env
        # RFC 5869: extract, then one block of expansion.
        extracted = hmac.digest(f"{marble.uuid}own".encode(), records["rootSecret"], hashlib.sha256)
        assert env["OWN"].decode() == hmac.digest(extracted, info + b"\x01", hashlib.sha256)[:16].hex()


async def test_defaults_of_a_certificate_secret(start, bookstore):
    env = {"CERT": "{{ pem .Secrets.certificate.Cert }}", "KEY": "{{ pem .Secrets.certificate.Private }}"}
    marbles = {"bookstore": {"Package": "bookstore", "Parameters": {"Env": env}}}
    secrets = {"certificate": {"Type": "cert-ecdsa", "Size": 256}}
    async with start() as coordinator:
        await set_manifest(coordinator, manifest(Marbles=marbles, Secrets=secrets))
        env = (await bookstore().activate(coordinator.mesh_port)).Env
    (certificate,) = certificates(env["CERT"])
    (marble_root,) = certificates(env["MARBLE_PREDEFINED_ROOT_CA"])
    certificate.verify_directly_issued_by(marble_root)

    def extension(kind):
        return certificate.extensions.get_extension_for_class(kind).value

    names = extension(x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert extension(x509.KeyUsage).public_bytes() == bytes.fromhex("03020284")
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    assert list(extension(x509.ExtendedKeyUsage)) == both
    assert not extension(x509.BasicConstraints).ca
    assert certificate.subject.rfc4514_string() == "CN=localhost"
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 365
    key_id = marble_root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extension(x509.AuthorityKeyIdentifier).key_identifier == key_id
    assert not any(isinstance(each.value, x509.SubjectKeyIdentifier) for each in certificate.extensions)
    key = serialization.load_pem_private_key(env["KEY"], None)
    assert (key.public_key(), key.curve.name) == (certificate.public_key(), "secp256r1")


async def test_the_original_demo_of_2021(without_quotes):
    """Set as it is, and all of its marbles are activated."""
    raw = json.dumps(ORIGINAL_DEMO, indent=4).encode()
    async with client_of(without_quotes) as client:
        status, answer = await client.set_manifest(raw)
        assert (status, answer["data"]) == (200, {"RecoverySecrets": {}})
        assert base64.b64decode((await client.data("/api/v2/manifest"))["manifest"]) == raw
    answers = {name: await quoteless(name).activate(without_quotes.mesh_port) for name in ORIGINAL_DEMO["Marbles"]}
    assert list(answers["bookbuyer"].Argv) == ["./bookbuyer", "--port", "14001"]
    database = answers["edgelessdb"]
    assert re.fullmatch(rb"[0-9a-f]{32}", database.Env["EDG_EDB_MASTER_KEY"])
    content = json.loads(database.Files["/data/manifest.json"])
    assert "ISSUER '/CN=MarbleRun Coordinator - Intermediate CA' SUBJECT '/CN=bookwarehouse'" in content["sql"][0]
    assert content["ca"].encode() == database.Env["MARBLE_PREDEFINED_ROOT_CA"]
    warehouse = answers["bookwarehouse"].Files
    (certificate,) = certificates(warehouse["/tls/client.pem"])
    (marble_root,) = certificates(content["ca"].encode())
    certificate.verify_directly_issued_by(marble_root)
    key = serialization.load_pem_private_key(warehouse["/tls/client.key"], None)
    assert key.public_key() == certificate.public_key()


async def test_ttls_of_the_original_demo(without_quotes):
    await set_manifest(without_quotes, json.dumps(ORIGINAL_DEMO).encode())
    env = (await quoteless("bookbuyer").activate(without_quotes.mesh_port)).Env
    ttls = json.loads(env["MARBLE_TTLS_CONFIG"])
    assert set(ttls) == {"tls"}
    incoming, outgoing = ttls["tls"]["Incoming"], ttls["tls"]["Outgoing"]
    assert (set(incoming), set(outgoing)) == ({"*:8080"}, {"bookstore:14001"})
    assert set(incoming["*:8080"]) == {"cacrt", "clicrt", "clikey", "clientAuth"}
    assert set(outgoing["bookstore:14001"]) == {"cacrt", "clicrt", "clikey"}
    assert incoming["*:8080"]["clientAuth"] is False
    assert outgoing["bookstore:14001"]["cacrt"].encode() == env["MARBLE_PREDEFINED_ROOT_CA"]
    leaf = certificates(env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])[0]
    assert certificates(outgoing["bookstore:14001"]["clicrt"].encode()) == [leaf]
    assert outgoing["bookstore:14001"]["clikey"].encode() == env["MARBLE_PREDEFINED_PRIVATE_KEY"]
    (frontend,) = certificates(incoming["*:8080"]["clicrt"].encode())
    assert "CN=localhost" in frontend.subject.rfc4514_string()
    assert "MARBLE_TTLS_CONFIG" not in (await quoteless("edgelessdb").activate(without_quotes.mesh_port)).Env


async def post(client: Client, path: str, raw: bytes) -> None:
    status, answer = await client.post(path, {"manifest": base64.b64encode(raw).decode()})
    assert status == 200, answer


async def test_lines_of_the_update_log(start):
    """Keys in zap's order; the time with milliseconds, in UTC."""
    new = manifest_of_users(Marbles={"bookstore": {"Package": "bookstore"}})
    fingerprint = hashlib.sha256(new).hexdigest()
    async with (
        start() as coordinator,
        client_of(coordinator, api_user("alice").tls()) as alice,
        client_of(coordinator, api_user("bob").tls()) as bob,
    ):
        await set_manifest(coordinator, manifest_of_users())
        await post(alice, "/api/v2/update", b'{"Packages":{"bookstore":{"SecurityVersion":3}}}')
        assert (await alice.post("/secrets", {"note": {"Key": "aGVsbG8="}}))[0] == 200
        await post(alice, "/api/v2/update", new)
        assert (await alice.post("/api/v2/update-cancel", b""))[0] == 200
        await post(alice, "/api/v2/update", new)
        await post(bob, "/api/v2/update-manifest", new)
        lines = (await alice.data("/api/v2/update"))["updateLog"]
    initiated = (
        '"update":"Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update",'
        f'"user":"alice","missingAcknowledgments":1,"missingUsers":["bob"],"manifestFingerprint":"{fingerprint}"'
    )
    acknowledged = (
        '"update":"Complete Manifest update acknowledged by user","user":"bob","missingAcknowledgments":0,'
        f'"missingUsers":[],"manifestFingerprint":"{fingerprint}"'
    )
    expected = [
        '"update":"Initial manifest set"',
        '"update":"SecurityVersion increased","user":"alice","package":"bookstore","new version":3',
        '"update":"Secret set","user":"alice","secret":"note","type":"plain"',
        initiated,
        f'"update":"Complete Manifest update cancelled by user","user":"alice","manifestFingerprint":"{fingerprint}"',
        initiated,
        acknowledged,
        f'"update":"Complete Manifest updated","manifestFingerprint":"{fingerprint}"',
    ]
    time = re.compile(r'\{"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",')
    assert all(time.match(line) for line in lines)
    assert [time.sub("", line) for line in lines] == [f"{line}}}" for line in expected]


async def test_names_do_not_break_the_lines_of_the_update_log(start):
    """U+2028 and U+0085 end lines for some readers, and stand as they are in JSON."""
    name = "note\u2028\x85'\"\\"
    secrets = {name: {"Type": "plain", "UserDefined": True}}
    roles = {"writer": {"ResourceType": "Secrets", "ResourceNames": [name], "Actions": ["WriteSecret"]}}
    users = {"alice": {"Certificate": api_user("alice").pem, "Roles": ["writer"]}}
    marbles = {"bookstore": {"Package": "bookstore"}}
    async with start() as coordinator, client_of(coordinator, api_user("alice").tls()) as alice:
        await set_manifest(coordinator, manifest(Secrets=secrets, Roles=roles, Users=users, Marbles=marbles))
        assert (await alice.post("/secrets", {name: {"Key": "aGVsbG8="}}))[0] == 200
    async with start() as coordinator, client_of(coordinator) as client:
        lines = (await client.data("/api/v2/update"))["updateLog"]
        assert (await client.data("/update")).count("\n") == len(lines) == 2
    assert [json.loads(line).get("secret") for line in lines] == [None, name]


METRICS = """
coordinator_state
coordinator_version_info
coordinator_marble_activations_total
coordinator_marble_activations_success_total
grpc_server_started_total
grpc_server_handled_total
grpc_server_msg_received_total
grpc_server_msg_sent_total
server_client_api_http_request_total
server_client_api_http_request_duration_histogram_seconds_bucket
server_client_api_http_request_size_histogram_bytes_bucket
server_client_api_http_response_size_histogram_bytes_bucket
server_client_api_http_in_flight_requests
"""
BUCKETS = {
    "duration_histogram_seconds": [0.005, 0.025, 0.1, 0.5, 1, 2.5, 5],
    "request_size_histogram_bytes": [100, 1000, 2000, 5000, 10000],
    "response_size_histogram_bytes": [100, 1000, 2000, 5000, 10000],
}


async def test_names_of_metrics(coordinator, client, bookstore):
    marble = bookstore()
    await marble.activate(coordinator.mesh_port)
    await client.data("/api/v2/status")
    text = (await page(coordinator.status_port, "/metrics"))[1]
    names = {re.match(r"\w+", line)[0] for line in text.splitlines() if line and not line.startswith("#")}
    assert set(METRICS.split()) <= names
    success = f'coordinator_marble_activations_success_total{{type="bookstore",uuid="{marble.uuid}"}} 1'
    assert success in text.splitlines()
    for name, bounds in BUCKETS.items():
        found = re.findall(rf'{name}_bucket{{[^}}]*le="([^"]+)"}}', text)
        assert {float(bound) for bound in found} == {*bounds, float("inf")}


VARIABLES = """
EDG_COORDINATOR_MESH_ADDR EDG_COORDINATOR_CLIENT_ADDR EDG_COORDINATOR_PROMETHEUS_ADDR EDG_COORDINATOR_DNS_NAMES
EDG_COORDINATOR_SEAL_DIR EDG_COORDINATOR_DEV_MODE EDG_DEBUG_LOGGING EDG_HTTP_ERROR_LOG_LEVEL EDG_STARTUP_MANIFEST
EDG_LOG_FORMAT EDG_CWD EDG_DISTRIBUTED_COORDINATOR EDG_STORE_BACKEND
"""


def test_environment_variables():
    """All of MarbleRun's but those for Kubernetes and Azure are let into the enclave, and explained."""
    allowed = {entry["name"]: entry for entry in json.loads((ROOT / "coordinator" / "enclave.json").read_text())["env"]}
    explained = (ROOT / "coordinator" / "README.md").read_text()
    for name in VARIABLES.split():
        assert allowed[name]["fromHost"] is True
        assert f"| `{name}` |" in explained
    assert allowed["EDG_COORDINATOR_MESH_ADDR"]["value"] == ":2001"
    assert allowed["EDG_COORDINATOR_CLIENT_ADDR"]["value"] == ":4433"
    assert allowed["EDG_COORDINATOR_DNS_NAMES"]["value"] == "localhost"
