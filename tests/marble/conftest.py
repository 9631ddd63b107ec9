from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from marble_pki import SERVICE, MarblePki, pem_of

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2_grpc
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.marble.channel import MarbleChannel
from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.marble.server import MarbleServer
from confidential_bookstore.policy.access import AccessRule, AccessRules
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.telemetry.status import Status


@pytest.fixture(scope="session")
def pki() -> MarblePki:
    return MarblePki()


class World:
    """One deployment on loopback: servers and channels with real certificates, closed at the end of a test."""

    def __init__(self, pki: MarblePki, stack: contextlib.AsyncExitStack) -> None:
        self.pki = pki
        self.stack = stack
        self.status = Status("bookstore")

    def identity(self, marble_type: str, pki: MarblePki | None = None, **leaf) -> Identity:
        pki = pki or self.pki
        chain, key = pki.leaf(marble_type, **leaf)
        env = {
            "MARBLE_PREDEFINED_ROOT_CA": pem_of(pki.marble_root).decode(),
            "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA": pem_of(pki.root).decode(),
            "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN": chain.decode(),
            "MARBLE_PREDEFINED_PRIVATE_KEY": key.decode(),
        }
        return Identity.from_environment(env, marble_type=marble_type, uuid="u", coordinator_root=pki.root)

    async def serve(self, servicer, *, live: LiveIdentity | None = None, methods=(".*",), **options) -> MarbleServer:
        rules = AccessRules(
            [AccessRule("buys", ("bookbuyer",), tuple(Match(path=Pattern(f"{SERVICE}/{m}")) for m in methods))]
        )
        server = MarbleServer(
            live or LiveIdentity(self.identity("bookstore")),
            [(bookstore_pb2_grpc.add_BookstoreServiceServicer_to_server, servicer)],
            address="127.0.0.1:0",
            rules=rules,
            status=self.status,
            **options,
        )
        await server.start()
        self.stack.push_async_callback(server.stop, 0)
        return server

    def channel(self, port: int, identity: Identity | LiveIdentity | None = None, expect="bookstore", **options):
        identity = identity or self.identity("bookbuyer")
        live = identity if isinstance(identity, LiveIdentity) else LiveIdentity(identity)
        channel = MarbleChannel(live, expect, f"127.0.0.1:{port}", **options)
        self.stack.push_async_callback(channel.close)
        return channel

    def stub(self, *args, **kwargs):
        return bookstore_pb2_grpc.BookstoreServiceStub(self.channel(*args, **kwargs))


@pytest.fixture
async def world(pki: MarblePki) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        yield World(pki, stack)


@pytest.fixture
def failure() -> Callable:
    async def failure(call) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return caught.value

    return failure


@pytest.fixture
def malformed_server(pki: MarblePki, tmp_path) -> Callable:
    """TLS with a certificate of version 8, which OpenSSL does not mind."""

    @contextlib.asynccontextmanager
    async def serve() -> AsyncIterator[int]:
        chain, key = pki.leaf("bookstore")
        der = x509.load_pem_x509_certificates(chain)[0].public_bytes(Encoding.DER)
        version_3 = bytes.fromhex("a003020102")
        assert version_3 in der
        der = der.replace(version_3, bytes.fromhex("a003020107"), 1)
        (tmp_path / "malformed.pem").write_text(ssl.DER_cert_to_PEM_cert(der) + key.decode())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "malformed.pem")
        async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
            yield server.sockets[0].getsockname()[1]

    return serve


@dataclass(frozen=True)
class Collateral:
    """What a PCCS would serve for the platform."""

    platform: SimulatedPlatform

    async def collateral_for(self, quote):
        return self.platform.collateral(quote.tee)


@pytest.fixture(scope="session")
def platform() -> SimulatedPlatform:
    return SimulatedPlatform.create()


@pytest.fixture(scope="session")
def verifier(platform: SimulatedPlatform) -> Verifier:
    return Verifier(TrustRoot.from_pem(platform.root_pem), Collateral(platform))
