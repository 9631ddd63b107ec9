from __future__ import annotations

import asyncio
import datetime as dt
import json
import ssl
from types import SimpleNamespace

import grpc
import pytest
from coordinators import BOOKSTORE, SIGNER, STRANGER, certificates, client_of, manifest, page, set_manifest
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from independent_marble import ActivationReq, ActivationResp, IndependentMarble
from raw_connection import connected

from confidential_bookstore.errors import CollateralUnavailable
from confidential_bookstore.pki.names import marble_type_of
from confidential_bookstore.secret import Secret
from coordinator.deployment.activation import ActivationRequest
from coordinator.deployment.builders import Builders
from coordinator.deployment.deployment import Deployment
from coordinator.marble_api import MarbleApi
from coordinator.monitoring.events import EventLog
from coordinator.monitoring.metrics import ActivationCounters, GrpcMetrics
from coordinator.pki.authority import Authority

CHAIN, KEY = "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN", "MARBLE_PREDEFINED_PRIVATE_KEY"


async def refused(coordinator, marble: IndependentMarble, **changes) -> tuple[Status, str]:
    with pytest.raises(GRPCError) as refusal:
        await marble.activate(coordinator.mesh_port, **changes)
    return refusal.value.status, refusal.value.message


async def test_a_genuine_marble_gets_what_the_manifest_says(coordinator, bookstore):
    marble = bookstore(dns_names=("localhost", "books.example"))
    parameters = await marble.activate(coordinator.mesh_port)
    assert parameters.Env["GREETING"] == b"hello"
    assert len(bytes.fromhex(parameters.Env["OWN"].decode())) == 16
    assert len(bytes.fromhex(parameters.Files["/etc/shared"].decode())) == 32
    assert list(parameters.Argv) == ["bookstore", "--serve"]


async def test_its_certificate_leads_to_both_roots(coordinator, bookstore):
    env = (await bookstore(uuid="0A4A9B60-5e1c-4f0f-8e43-6d0f0d3c2b11").activate(coordinator.mesh_port)).Env
    leaf, intermediate = certificates(env[CHAIN])
    (marble_root,), (root,) = (
        certificates(env["MARBLE_PREDEFINED_ROOT_CA"]),
        certificates(env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"]),
    )
    leaf.verify_directly_issued_by(marble_root)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    assert leaf.subject.rfc4514_string() == "CN=0a4a9b60-5e1c-4f0f-8e43-6d0f0d3c2b11"
    assert marble_type_of(leaf) == "bookstore"
    key = serialization.load_pem_private_key(env[KEY], None)
    assert key.public_key() == leaf.public_key()
    assert leaf.not_valid_after_utc - dt.datetime.now(dt.UTC) < dt.timedelta(hours=24, minutes=1)
    PolicyBuilder().store(Store([root])).build_client_verifier().verify(leaf, [intermediate])


async def test_unique_secrets_follow_the_marble_and_shared_ones_do_not(coordinator, bookstore):
    one = bookstore()
    first, again = [await one.activate(coordinator.mesh_port) for _ in range(2)]
    other = await bookstore().activate(coordinator.mesh_port)
    assert first.Env["OWN"] == again.Env["OWN"] != other.Env["OWN"]
    assert first.Files["/etc/shared"] == other.Files["/etc/shared"]
    assert first.Env[KEY] != again.Env[KEY]


async def grpcio_call(coordinator, marble: IndependentMarble, body: bytes, path="/rpc.Marble/Activate") -> bytes:
    """With grpcio, which insists on a known server: pins what the mesh port shows. Bytes in, bytes out."""
    credentials = grpc.ssl_channel_credentials(
        await shown(coordinator),
        marble.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        marble.certificate.public_bytes(serialization.Encoding.PEM),
    )
    options = [("grpc.ssl_target_name_override", "localhost")]
    address = f"127.0.0.1:{coordinator.mesh_port}"
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        return await channel.unary_unary(path)(body, timeout=10)


async def test_grpcio_marbles_are_served_too(coordinator, bookstore):
    marble = bookstore()
    answer = await grpcio_call(coordinator, marble, marble.request().SerializeToString())
    assert ActivationResp.FromString(answer).Parameters.Env["GREETING"] == b"hello"


async def shown(coordinator) -> bytes:
    async with connected(coordinator.mesh_port, IndependentMarble("any", bytes).tls()) as (_, writer):
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return ssl.DER_cert_to_PEM_cert(der).encode()


async def test_without_a_client_certificate_there_is_no_connection(coordinator, bookstore):
    tls = bookstore().tls(show_certificate=False)
    async with connected(coordinator.mesh_port, tls) as (reader, _):
        with pytest.raises(ssl.SSLError) as alert:
            await asyncio.wait_for(reader.read(1), 5)
    assert alert.value.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


async def test_without_a_client_certificate_there_is_no_activation_either(bookstore, verifier):
    """Should the listener ever let such a connection through."""
    authority = Authority.create(dns_names=["localhost"], now=dt.datetime.now(dt.UTC))
    begun = Deployment.begin(authority, Secret(bytes(32)))
    deployment, _ = begun.accept_manifest(manifest(), dt.datetime.now(dt.UTC))
    api = MarbleApi(
        live=SimpleNamespace(current=deployment),
        verifier=verifier,
        events=EventLog(),
        counters=ActivationCounters(),
        calls=GrpcMetrics(),
        builders=Builders(),
        trust_domain="marbles.internal",
        leaf_lifetime=dt.timedelta(hours=1),
    )
    request = bookstore().request()
    asked = ActivationRequest(marble_type="bookstore", uuid=request.UUID, csr=request.CSR, quote=request.Quote)
    with pytest.raises(GRPCError) as refusal:
        await api.activate(asked, None)
    assert (refusal.value.status, refusal.value.message) == (
        Status.UNAUTHENTICATED,
        "couldn't get marble TLS certificate",
    )


async def test_a_quote_for_another_key_is_refused_with_both(coordinator, bookstore):
    """Who relays a genuine quote over its own connection gets nothing."""
    genuine, relay = bookstore(), bookstore()
    stolen = genuine.quoter(genuine.report_data)
    status, message = await refused(coordinator, relay, Quote=stolen, UUID=genuine.uuid, CSR=genuine.csr())
    assert status is Status.PERMISSION_DENIED
    assert message.startswith("marble verification failed: invalid quote: the quote is of another key")
    assert f"got {genuine.report_data.hex()}, expected {relay.report_data.hex()}" in message


async def test_other_code_is_refused_with_what_it_is(coordinator, bookstore):
    status, message = await refused(coordinator, bookstore(identity=STRANGER))
    assert status is Status.PERMISSION_DENIED
    assert message.startswith("marble verification failed: invalid quote: package does not allow this SignerID")
    assert STRANGER.mr_signer.hex() in message


async def test_a_type_takes_its_own_package_only(start, bookstore):
    """Code that is one marble of the manifest is not therefore every other one."""
    other = {"UniqueID": STRANGER.mr_enclave.hex()}
    genuine = {"SignerID": SIGNER.hex(), "ProductID": 3, "SecurityVersion": 2}
    marbles = {"bookstore": {"Package": "ours"}, "bookwarehouse": {"Package": "theirs"}}
    async with start() as coordinator:
        await set_manifest(coordinator, manifest(Packages={"ours": genuine, "theirs": other}, Marbles=marbles))
        await bookstore("bookstore").activate(coordinator.mesh_port)
        status, message = await refused(coordinator, bookstore("bookwarehouse"))
        assert status is Status.PERMISSION_DENIED
        assert "package does not allow this UniqueID" in message
        await bookstore("bookwarehouse", identity=STRANGER).activate(coordinator.mesh_port)
        assert (await refused(coordinator, bookstore("bookstore", identity=STRANGER)))[0] is Status.PERMISSION_DENIED


async def test_an_old_version_is_refused(coordinator, bookstore, machine):
    old = type(BOOKSTORE)(mr_enclave=b"S" * 32, mr_signer=BOOKSTORE.mr_signer, product_id=3, security_version=1)
    _, message = await refused(coordinator, bookstore(identity=old))
    assert "SecurityVersion: got 1, expected at least 2" in message


async def test_no_quote_is_refused_in_every_mode(coordinator, bookstore):
    status, message = await refused(coordinator, bookstore(), Quote=b"")
    assert status is Status.PERMISSION_DENIED
    assert message.startswith("marble verification failed: invalid quote: ")


async def test_an_unknown_type_is_refused_before_its_quote_is_read(coordinator, bookstore):
    status, message = await refused(coordinator, bookstore("bookthief"), Quote=b"", UUID="")
    assert status is Status.PERMISSION_DENIED
    assert message.startswith("marble verification failed: unknown marble type requested")


@pytest.mark.parametrize("text", ["", "books", "00000000-0000-0000-0000-000000000000"])
async def test_a_bad_uuid_is_the_callers_mistake(coordinator, bookstore, text):
    status, message = await refused(coordinator, bookstore(), UUID=text)
    assert status is Status.INVALID_ARGUMENT
    assert message.startswith("invalid UUID: ")


async def test_a_bad_certificate_request(coordinator, bookstore):
    status, message = await refused(coordinator, bookstore(), CSR=b"\x30\x00")
    assert status is Status.INTERNAL
    assert message.startswith("generating marble authentication secrets: ")


async def test_a_name_below_the_trust_domain_is_refused(coordinator, bookstore):
    status, message = await refused(coordinator, bookstore(dns_names=("bookwarehouse.marbles.internal",)))
    assert status is Status.INTERNAL
    assert "marbles.internal" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [("Quote", bytes(70_000)), ("CSR", bytes(40_000)), ("MarbleType", "x" * 300), ("UUID", "0" * 300)],
)
async def test_fields_are_bounded(coordinator, bookstore, field, value):
    status, message = await refused(coordinator, bookstore(), **{field: value})
    assert status is Status.INVALID_ARGUMENT
    assert message.startswith(f"{field} is too long: got {len(value)}")


async def test_before_the_manifest_nobody_is_activated(start, bookstore):
    async with start() as coordinator:
        status, message = await refused(coordinator, bookstore())
    assert (status, message) == (Status.FAILED_PRECONDITION, "cannot accept marbles in current state")


async def test_the_limit_of_a_type_counts_every_activation_and_survives_restarts(start, bookstore):
    async with start() as coordinator:
        await set_manifest(coordinator, manifest())
        await bookstore("limited").activate(coordinator.mesh_port)
    async with start() as coordinator:
        marbles = [bookstore("limited") for _ in range(4)]
        answers = await asyncio.gather(
            *(marble.activate(coordinator.mesh_port) for marble in marbles), return_exceptions=True
        )
        refusals = [answer for answer in answers if isinstance(answer, GRPCError)]
        assert len(refusals) == 3
        assert {refusal.status for refusal in refusals} == {Status.PERMISSION_DENIED}
        expected = 'marble verification failed: reached max activations count (2) for marble type "limited"'
        assert all(refusal.message.startswith(expected) for refusal in refusals)
    async with start() as coordinator:
        assert (await refused(coordinator, bookstore("limited")))[0] is Status.PERMISSION_DENIED


class GatedVerifier:
    """Holds up quotes of one report data until it is told to go on."""

    def __init__(self, verifier, report_data):
        self._verifier, self._report_data = verifier, report_data
        self.root = verifier.root
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()

    async def verify(self, quote, report_data):
        if report_data == self._report_data:
            self.reached.set()
            await self.go_on.wait()
        return await self._verifier.verify(quote, report_data)


async def test_a_slow_activation_holds_up_nobody(start, bookstore, verifier):
    slow = bookstore()
    gated = GatedVerifier(verifier, slow.report_data)
    async with start(verifier=gated) as coordinator, client_of(coordinator) as client:
        await set_manifest(coordinator, manifest())
        slowly = asyncio.create_task(slow.activate(coordinator.mesh_port))
        await asyncio.wait_for(gated.reached.wait(), 5)
        await asyncio.gather(*(bookstore().activate(coordinator.mesh_port) for _ in range(3)))
        await bookstore("limited").activate(coordinator.mesh_port)
        assert (await client.data("/api/v2/status"))["code"] == 3
        assert not slowly.done()
        gated.go_on.set()
        assert (await slowly).Env["GREETING"] == b"hello"


async def test_large_keys_hold_up_nobody(start, bookstore):
    """RSA keys are made in threads."""
    slow = {"Package": "bookstore", "Parameters": {"Env": {"KEY": "{{ pem .Secrets.rsa.Private }}"}}}
    fast = {"Package": "bookstore", "Parameters": {}}
    rsa = {"Type": "cert-rsa", "Size": 3072, "ValidFor": 10}
    async with start() as coordinator, client_of(coordinator) as client:
        await set_manifest(coordinator, manifest(Marbles={"slow": slow, "fast": fast}, Secrets={"rsa": rsa}))
        slowly = [asyncio.create_task(bookstore("slow").activate(coordinator.mesh_port)) for _ in range(3)]
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        await asyncio.wait_for(bookstore("fast").activate(coordinator.mesh_port), 2)
        await asyncio.wait_for(client.data("/api/v2/status"), 1)
        fast_took = asyncio.get_running_loop().time() - began
        await asyncio.gather(*slowly)
        assert fast_took < asyncio.get_running_loop().time() - began


async def test_no_collateral_is_no_refusal_for_good(start, bookstore, verifier):
    class Unreachable:
        root = verifier.root

        async def verify(self, quote, report_data):
            raise CollateralUnavailable("PCCS does not answer")

    async with start(verifier=Unreachable()) as coordinator:
        await set_manifest(coordinator, manifest())
        status, message = await refused(coordinator, bookstore())
    assert status is Status.UNAVAILABLE
    assert message == "marble verification failed: invalid quote: PCCS does not answer"


async def test_another_method_is_unimplemented(coordinator, bookstore):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await grpcio_call(coordinator, bookstore(), b"", "/rpc.Marble/Deactivate")
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_garbage_is_refused(coordinator, bookstore):
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await grpcio_call(coordinator, bookstore(), b"\xff\xff\xff")
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.value.details() == "request cannot be read"


def test_any_request_gets_an_orderly_refusal(start, bookstore):
    """Raw bytes and well-formed requests with wild fields alike; the port goes on serving."""
    marble = bookstore()
    fields = st.fixed_dictionaries(
        {},
        optional={
            "Quote": st.binary(max_size=2000),
            "CSR": st.binary(max_size=200),
            "MarbleType": st.sampled_from(["bookstore", "limited"]) | st.text(max_size=40),
            "UUID": st.just(marble.uuid) | st.text(max_size=40),
        },
    )
    bodies = st.binary(max_size=300) | fields.map(lambda chosen: ActivationReq(**chosen).SerializeToString())
    expected = {"INVALID_ARGUMENT", "PERMISSION_DENIED"}
    with asyncio.Runner() as runner:
        context = start()
        coordinator = runner.run(context.__aenter__())
        runner.run(set_manifest(coordinator, manifest()))

        @hypothesis_settings(max_examples=60, deadline=None)
        @given(bodies)
        def check(body):
            with pytest.raises(grpc.aio.AioRpcError) as refusal:
                runner.run(grpcio_call(coordinator, marble, body))
            assert refusal.value.code().name in expected, refusal.value.details()

        try:
            check()
        finally:
            runner.run(context.__aexit__(None, None, None))


async def test_two_megabytes_end_the_connection_and_nothing_else(coordinator, bookstore):
    with pytest.raises((GRPCError, StreamTerminatedError, ConnectionError)):
        await bookstore().activate(coordinator.mesh_port, Quote=bytes(2 << 20))
    await bookstore().activate(coordinator.mesh_port)


async def test_what_happened_can_be_read(coordinator, bookstore):
    marble, stranger = bookstore(), bookstore(identity=STRANGER)
    await marble.activate(coordinator.mesh_port)
    await refused(coordinator, stranger)
    await refused(coordinator, bookstore('no\nsuch"type'))
    _, text = await page(coordinator.status_port, "/events")
    activated, denied, unknown = json.loads(text)
    assert activated["activation"]["marbleType"] == "bookstore"
    assert activated["activation"]["uuid"] == marble.uuid
    assert activated["activation"]["uniqueID"] == BOOKSTORE.mr_enclave.hex()
    assert activated["activation"]["simulated"] is True
    assert activated["activation"]["securityVersion"] == 2
    expires = dt.datetime.fromisoformat(activated["activation"]["certificateExpires"])
    assert dt.timedelta(hours=23) < expires - dt.datetime.fromisoformat(activated["time"]) <= dt.timedelta(hours=24)
    assert denied["denial"]["uuid"] == stranger.uuid
    assert "SignerID" in denied["denial"]["reason"]
    assert unknown["denial"]["marbleType"] == 'no\nsuch"type'
    _, metrics = await page(coordinator.status_port, "/metrics")
    assert 'coordinator_marble_activations_total{type="bookstore"} 2\n' in metrics
    assert 'coordinator_marble_activations_total{type="unknown"} 1\n' in metrics
    assert f'coordinator_marble_activations_success_total{{type="bookstore",uuid="{marble.uuid}"}} 1\n' in metrics
    assert "coordinator_state 3\n" in metrics
    assert "such" not in metrics
