"""Two coordinators of one product, over real connections: who hands the key to whom, and who does not."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import datetime as dt
import json

import grpc
import pytest
from aiohttp import web
from coordinators import COORDINATOR
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.exceptions import GRPCError
from grpclib.server import Server as GrpcServer

from confidential_bookstore.api.marblerun.v1 import key_handover_pb2, key_handover_pb2_grpc
from confidential_bookstore.attestation.binding import coordinator_report_data, marble_report_data
from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.platforms import SealPolicy
from confidential_bookstore.attestation.simulation.identity import TdIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import CoordinatorUnavailable, CoordinatorUntrusted, DebugEnclave, PlatformError
from confidential_bookstore.marble.activation_key import new_activation_key
from confidential_bookstore.marble.credentials import pinned_credentials
from confidential_bookstore.secret import Secret
from coordinator.manifest.config import SealMode
from coordinator.pki.authority import Authority
from coordinator.recovery.data_key import DataKey
from coordinator.sealing.handover import KeyHandover, Peer, PeerKeys, fetch_key, may_have, own_claims, peers_at
from coordinator.sealing.sealed_state import ROOT_CERTIFICATE, SealedState, Unsealed
from coordinator.sealing.shared_keys import SharedKey, SharedKeys
from coordinator.sealing.sql import SqlStore
from coordinator.transport.http_server import open_http_server
from coordinator.transport.listener import Limits, grpc_inside, open_listener
from coordinator.transport.tls import AnyClientCertContext, ClientCertificate

KEY = Secret(b"key-encryption key".ljust(32))
LOOPBACK = ("127.0.0.1", 0)
NEWER = dataclasses.replace(COORDINATOR, mr_enclave=b"N" * 32, security_version=2)
STRANGERS = {
    "signer": dataclasses.replace(COORDINATOR, mr_signer=b"X" * 32),
    "product": dataclasses.replace(COORDINATOR, product_id=2),
}


class FixedKeys:
    """`SharedKeys`, as far as the service looks at them."""

    def __init__(self, current):
        self.current = current


@pytest.fixture
def on(machine):
    return lambda identity=COORDINATOR: InProcessPlatform(machine, identity)


@pytest.fixture(scope="session")
def authority():
    return Authority.create(dns_names=["localhost"], now=dt.datetime.now(dt.UTC))


@pytest.fixture
async def serving(on, verifier, authority):
    """Starts what a coordinator of this identity shows to others; gives its addresses and what it was sent."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(keys, identity=COORDINATOR, *, key_authority=None):
            platform = on(identity)
            root = authority.root.public_bytes(Encoding.DER)

            async def answer(request):
                nonce = base64.urlsafe_b64decode(request.query["nonce"])
                quote = platform.quote(coordinator_report_data(root, nonce))
                chain = authority.intermediate.public_bytes(Encoding.PEM) + authority.root.public_bytes(Encoding.PEM)
                data = {"cert": chain.decode(), "quote": base64.b64encode(quote).decode()}
                return web.Response(body=json.dumps({"status": "success", "data": data}))

            client = await open_http_server(
                LOOPBACK,
                answer,
                context=AnyClientCertContext(
                    authority.root,
                    authority.root_key,
                    client_certificate=ClientCertificate.OPTIONAL,
                    alpn=(b"http/1.1",),
                ),
                limits=Limits(),
                largest_body=1,
            )
            stack.push_async_callback(client.stop, 1.0)
            service = KeyHandover(keys=keys, verifier=verifier, own=await own_claims(platform, verifier))
            shown = key_authority or authority
            handover = await open_listener(
                LOOPBACK,
                grpc_inside(GrpcServer([service])),
                context=AnyClientCertContext(
                    shown.marble_root,
                    shown.intermediate_key,
                    client_certificate=ClientCertificate.REQUIRED,
                    alpn=(b"h2",),
                ),
                limits=Limits(),
            )
            stack.push_async_callback(handover.stop, 1.0)
            return Peer(f"127.0.0.1:{client.port}", f"127.0.0.1:{handover.port}")

        yield start


@pytest.fixture
def fetching(on, verifier):
    async def fetch(peer, identity=COORDINATOR, platform=None):
        own = await own_claims(on(identity), verifier)
        return await fetch_key(peer, platform=platform or on(identity), verifier=verifier, own=own)

    return fetch


def shared(policy=SealPolicy.PRODUCT_KEY):
    return FixedKeys(SharedKey(KEY, policy))


async def test_the_same_product_gets_the_key(serving, fetching):
    peer = await serving(shared())
    assert await fetching(peer) == KEY


async def test_a_newer_version_gets_the_key_and_an_older_one_does_not(serving, fetching):
    assert await fetching(await serving(shared()), NEWER) == KEY
    with pytest.raises(CoordinatorUntrusted, match=r"the peer refuses: .*SecurityVersion"):
        await fetching(await serving(shared(), NEWER))


async def test_under_unique_key_only_the_same_code_gets_it(serving, fetching):
    peer = await serving(shared(SealPolicy.UNIQUE_KEY))
    assert await fetching(peer) == KEY
    with pytest.raises(CoordinatorUntrusted, match=r"the peer refuses: .*UniqueID"):
        await fetching(peer, NEWER)


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_another_product_is_refused(serving, on, verifier, stranger):
    """Also one that does not care whom it asks."""
    peer = await serving(shared())
    ours = await own_claims(on(), verifier)
    with pytest.raises(CoordinatorUntrusted, match="the peer refuses"):
        await fetch_key(peer, platform=on(STRANGERS[stranger]), verifier=verifier, own=ours)


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_nothing_is_sent_to_another_product(serving, fetching, stranger):
    class Silent(FixedKeys):
        @property
        def current(self):
            pytest.fail("it was asked")

        @current.setter
        def current(self, value):
            pass

    peer = await serving(Silent(None), STRANGERS[stranger])
    with pytest.raises(CoordinatorUntrusted, match="quote is not accepted"):
        await fetching(peer)


async def test_nothing_is_sent_to_a_server_that_only_relays_the_evidence(serving, fetching):
    other = Authority.create(dns_names=["localhost"], now=dt.datetime.now(dt.UTC))
    peer = await serving(shared(), key_authority=other)
    with pytest.raises(CoordinatorUntrusted, match="not the verified coordinator's"):
        await fetching(peer)


async def test_a_debug_enclave_does_not_share(on, verifier):
    with pytest.raises(DebugEnclave):
        await own_claims(on(dataclasses.replace(COORDINATOR, debug=True)), verifier)


async def test_code_without_a_signer_does_not_share(machine, verifier):
    class Domain(InProcessPlatform):
        def quote(self, report_data):
            return self.platform.quote_tdx(TdIdentity(mr_td=b"t" * 48), report_data)

    with pytest.raises(PlatformError, match=r"one signer only: got TDX"):
        await own_claims(Domain(machine, COORDINATOR), verifier)


async def test_a_debug_enclave_gets_nothing(serving, on, verifier):
    peer = await serving(shared())
    debug = on(dataclasses.replace(COORDINATOR, debug=True))
    with pytest.raises(CoordinatorUntrusted, match=r"the peer refuses: .*[Dd]ebug"):
        await fetch_key(peer, platform=debug, verifier=verifier, own=await own_claims(on(), verifier))


async def test_a_quote_of_another_machine_is_refused(serving, on, verifier):
    peer = await serving(shared())
    foreign = InProcessPlatform(SimulatedPlatform.create(), COORDINATOR)
    with pytest.raises(CoordinatorUntrusted, match="the peer refuses: invalid quote"):
        await fetch_key(peer, platform=foreign, verifier=verifier, own=await own_claims(on(), verifier))


async def test_a_quote_that_is_relayed_is_refused(serving, on, verifier):
    """A genuine quote, over the certificate of another connection."""

    class Relaying(InProcessPlatform):
        def quote(self, report_data):
            return super().quote(marble_report_data(new_activation_key(()).certificate_der))

    peer = await serving(shared())
    relaying = Relaying(on().platform, COORDINATOR)
    with pytest.raises(CoordinatorUntrusted, match="another key"):
        await fetch_key(peer, platform=relaying, verifier=verifier, own=await own_claims(on(), verifier))


async def test_a_coordinator_without_a_key_says_so(serving, fetching):
    with pytest.raises(CoordinatorUnavailable, match="no key yet"):
        await fetching(await serving(FixedKeys(None)))


@pytest.mark.parametrize("size", [0, 16, 33])
async def test_a_key_of_another_size_is_not_taken(serving, fetching, size):
    with pytest.raises(CoordinatorUntrusted, match="wrong size"):
        await fetching(await serving(FixedKeys(SharedKey(Secret(bytes(size)), SealPolicy.PRODUCT_KEY))))


async def test_a_peer_that_is_away(fetching):
    with pytest.raises(CoordinatorUnavailable):
        await fetching(Peer("127.0.0.1:1", "127.0.0.1:1"))


async def test_without_a_client_certificate_there_is_no_key(on, verifier):
    service = KeyHandover(keys=shared(), verifier=verifier, own=await own_claims(on(), verifier))
    with pytest.raises(GRPCError, match="certificate"):
        await service.key_for(b"quote", None)
    for quote in (b"", b"x" * 100, b"x" * (64 * 1024 + 1)):
        with pytest.raises(GRPCError, match="quote"):
            await service.key_for(quote, b"certificate")


async def call(peer, authority, request):
    """As an original coordinator would, with the stub."""
    key = new_activation_key(())
    root = authority.marble_root.public_bytes(Encoding.PEM)
    credentials = pinned_credentials(root, chain_pem=key.certificate_pem, key_pem=key.private_key_pem)
    options = [("grpc.ssl_target_name_override", "localhost")]
    async with grpc.aio.secure_channel(peer.key_address, credentials, options=options) as channel:
        return await request(channel, key.certificate_der)


async def test_the_wire_is_marbleruns(serving, authority, on):
    async def ask(channel, certificate_der):
        stub = key_handover_pb2_grpc.APIStub(channel)
        quote = on().quote(marble_report_data(certificate_der))
        return await stub.GetKeyEncryptionKey(key_handover_pb2.GetKeyEncryptionKeyRequest(quote=quote))

    answer = await call(await serving(shared()), authority, ask)
    assert answer.SerializeToString() == b"\x0a\x20" + KEY.reveal()


async def test_a_malformed_request_is_an_answer(serving, authority):
    async def ask(channel, _certificate_der):
        method = channel.unary_unary("/keypb.API/GetKeyEncryptionKey")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(b"\xff\xff")
        return refused.value.code()

    assert await call(await serving(shared()), authority, ask) is grpc.StatusCode.INVALID_ARGUMENT


def test_who_may_have_a_key():
    own = Claims(
        root_key_id="",
        tee="SGX",
        report_data=b"",
        debug=False,
        tcb_status="ConfigurationNeeded",
        advisories=(),
        tcb_evaluation_number=1,
        fmspc="",
        expires=0,
        unique_id="aa",
        signer_id="bb",
        product_id=1,
        security_version=4,
    )
    product = may_have(SharedKey(KEY, SealPolicy.PRODUCT_KEY), own)
    unique = may_have(SharedKey(KEY, SealPolicy.UNIQUE_KEY), own)
    assert (product.unique_id, product.signer_id, product.product_id, product.security_version) == ("", "bb", 1, 4)
    assert unique.unique_id == "aa"
    assert set(product.accepted_tcb_statuses) == {"SWHardeningNeeded", "ConfigurationNeeded"}
    assert not product.debug


def test_the_peers_behind_a_name():
    assert Peer("127.0.0.1:4433", "127.0.0.1:5433") in peers_at("localhost", 4433)
    assert peers_at("127.0.0.1", 1, 2) == (Peer("127.0.0.1:1", "127.0.0.1:2"),)
    assert peers_at("::1", 1, 2) == (Peer("[::1]:1", "[::1]:2"),)
    assert peers_at("no.such.name.invalid", 1) == ()


async def test_who_asked_in_vain_waits(on, verifier):
    """A second, then longer and longer, and never more than half a minute."""
    now, asked = [0.0], []

    def peers():
        asked.append("asked")
        return [Peer("127.0.0.1:1", "127.0.0.1:1")]

    ask = PeerKeys(
        peers,
        platform=on(),
        verifier=verifier,
        own=await own_claims(on(), verifier),
        loop=asyncio.get_running_loop(),
        clock=lambda: now[0],
    )
    for time in (0.0, 0.9, 1.0, 2.9, 3.0, 6.9, 7.0, 14.9, 15.0, 30.9, 31.0, 60.9, 61.0, 90.9, 91.0):
        now[0] = time
        assert await asyncio.to_thread(lambda: list(ask())) == []
    assert len(asked) == 8


@pytest.fixture(params=["sqlite", "mariadb"])
def database(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state'}"
    return request.getfixturevalue("mariadb").new_database()


@pytest.fixture
def three(machine, verifier, database):
    """Opens the shared state as one of three coordinators, on machines of one provisioning authority."""

    def opening(number, peers, own, loop):
        # One root verifies all; each has a fuse key of its own.
        fused = dataclasses.replace(machine, fuse_key=Secret(bytes([number]) * 32))
        platform = InProcessPlatform(fused, COORDINATOR)
        store = SqlStore(database)
        ask = PeerKeys(lambda: peers, platform=platform, verifier=verifier, own=own, loop=loop) if peers else None
        keys = SharedKeys.of(platform, store, ask)
        return store, keys, SealedState(store, keys, None)

    return opening


async def test_three_coordinators_on_three_machines_share_a_database(serving, three, on, verifier, authority):
    """One makes the key, the others ask for it over the network, and each keeps it for its machine."""
    records = {"state": b"2", ROOT_CERTIFICATE: authority.root.public_bytes(Encoding.DER)}
    peers = [Peer("127.0.0.1:1", "127.0.0.1:1")]
    background = (await own_claims(on(), verifier), asyncio.get_running_loop())
    opened = [await asyncio.to_thread(three, number, peers, *background) for number in range(3)]
    data_key = DataKey(Secret(b"data key".ljust(32)))
    (_, first, sealed), *others = opened
    assert await asyncio.to_thread(sealed.load) is None
    await asyncio.to_thread(sealed.store, records, data_key, SealMode.PRODUCT_KEY)
    peers.append(await serving(first))
    for _, keys, other in others:
        assert await asyncio.to_thread(other.load) == Unsealed(records, data_key)
        assert keys.current == first.current
    changed = records | {"state": b"3"}
    await asyncio.to_thread(others[0][2].store, changed, data_key, SealMode.PRODUCT_KEY)
    assert await asyncio.to_thread(sealed.changed)
    assert await asyncio.to_thread(sealed.load) == Unsealed(changed, data_key)
    for number in range(3):
        opened.append(await asyncio.to_thread(three, number, (), *background))
        assert await asyncio.to_thread(opened[-1][2].load) == Unsealed(changed, data_key)
    for store, _, _ in opened:
        store.close()
