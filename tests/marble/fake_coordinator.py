"""A coordinator for tests: the two listeners, real quotes of a simulated platform, and switches to misbehave.

It verifies every marble's quote like the real one, so what activates here has shown true evidence.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from dataclasses import dataclass, field

import grpclib
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.const import Cardinality, Handler
from grpclib.server import Server
from marble_pki import MarblePki, certificate, pem_of

from confidential_bookstore.api.marblerun.v1.marble_pb2 import ActivationReq, ActivationResp, Parameters
from confidential_bookstore.attestation.binding import coordinator_report_data, marble_report_data
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import AttestationError
from coordinator.transport.tls import AnyClientCertContext, ClientCertificate

SIGNER = b"s" * 32
COORDINATOR = EnclaveIdentity(mr_enclave=b"c" * 32, mr_signer=SIGNER, product_id=1, security_version=2)
BOOKSTORE = EnclaveIdentity(mr_enclave=b"b" * 32, mr_signer=SIGNER, product_id=3, security_version=1)
COORDINATOR_PACKAGE = Package(signer_id=SIGNER.hex(), product_id=1, security_version=2)
MARBLE_PACKAGE = Package(signer_id=SIGNER.hex(), product_id=3, security_version=1)


@dataclass
class FakeCoordinator:
    platform: SimulatedPlatform
    verifier: Verifier
    pki: MarblePki = field(default_factory=MarblePki)
    identity: EnclaveIdentity = COORDINATOR
    lifetime: float = 3600.0
    env: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    refuse: tuple[grpclib.const.Status, str] | None = None
    issue_type: str | None = None
    replace_env: dict[str, bytes] = field(default_factory=dict)
    quote_over: bytes | None = None
    status: int = 200
    body: bytes | None = None
    mesh: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
    activations: list[ActivationReq] = field(default_factory=list)
    refused_types: frozenset[str] = frozenset()
    original: bool = False
    package: Package = MARBLE_PACKAGE
    accept_any: bool = False  # like a coordinator that asks for no evidence
    stale: list[MarblePki] = field(default_factory=list)  # what the next activations are issued by
    generation: int = 0
    previous: list[dict] = field(default_factory=list)
    generations_status: int = 200
    generations_body: bytes | None = None
    watched: int = 0
    hold: float = 20.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self.mesh = self.mesh or (self.pki.marble_root, self.pki.key)
        self._mesh = Server([self])
        await self._mesh.start("127.0.0.1", 0, ssl=self._mesh_context())
        self.mesh_port = self._mesh._server.sockets[0].getsockname()[1]
        app = web.Application()
        app.router.add_get("/api/v2/quote", self.quote)
        if self.original:
            app.router.add_get("/api/v2/generations", self.unsupported)
        else:
            app.router.add_get("/api/v2/generations", self.generations)
        self._web = web.AppRunner(app)
        await self._web.setup()
        optional = AnyClientCertContext(
            self.pki.root, self.pki.root_key, client_certificate=ClientCertificate.OPTIONAL, alpn=[b"http/1.1"]
        )
        site = web.TCPSite(self._web, "127.0.0.1", 0, ssl_context=optional)
        await site.start()
        self.client_port = site._server.sockets[0].getsockname()[1]

    async def rotate(self, revoked: dict[str, float] | None = None) -> None:
        """What an update of the manifest does: another Marble Root; `revoked` is seconds from now, by type."""
        now = time.time()
        ends = {name: now + seconds for name, seconds in (revoked or {}).items()}
        for each in self.previous:
            each["revoked"] = ends | each["revoked"]
        last = {"generation": self.generation, "marbleRoot": pem_of(self.pki.marble_root).decode()}
        self.previous.insert(0, last | {"until": now + 3600, "revoked": ends})
        self.generation += 1
        self.pki = self.pki.rotated()
        await self._restart_mesh()
        self.changed.set()
        self.changed = asyncio.Event()

    async def _restart_mesh(self) -> None:
        """On the same port, with the new certificate."""
        self._mesh.close()
        await self._mesh.wait_closed()
        self.mesh = (self.pki.marble_root, self.pki.key)
        self._mesh = Server([self])
        await self._mesh.start("127.0.0.1", self.mesh_port, ssl=self._mesh_context(), reuse_address=True)

    def _mesh_context(self) -> AnyClientCertContext:
        return AnyClientCertContext(*self.mesh, client_certificate=ClientCertificate.REQUIRED, alpn=[b"h2"])

    async def unsupported(self, request: web.Request) -> web.Response:
        self.watched += 1
        return web.json_response({"status": "error", "data": None}, status=405)

    async def generations(self, request: web.Request) -> web.Response:
        self.watched += 1
        if self.generations_status != 200:
            return web.json_response({"status": "error", "data": None}, status=self.generations_status)
        if request.query.get("known") == str(self.generation):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.hold):
                    await self.changed.wait()
        if self.generations_body is not None:
            return web.Response(body=self.generations_body)
        root = pem_of(self.pki.marble_root).decode()
        report = {"generation": self.generation, "marbleRoot": root, "previous": self.previous}
        return web.json_response({"status": "success", "data": report})

    async def stop(self) -> None:
        self.hold = 0.0
        self.changed.set()
        self._mesh.close()
        await self._mesh.wait_closed()
        await self._web.cleanup()

    async def quote(self, request: web.Request) -> web.Response:
        if self.body is not None:
            return web.Response(body=self.body)
        nonce = base64.urlsafe_b64decode(request.query["nonce"])
        root = request.transport.get_extra_info("ssl_object")._connection.get_certificate(as_cryptography=True)
        over = self.quote_over if self.quote_over is not None else nonce
        report_data = coordinator_report_data(root.public_bytes(Encoding.DER), over)
        quote = self.platform.quote_sgx(self.identity, report_data) if self.identity else b""
        chain = (pem_of(self.pki.intermediate) + pem_of(self.pki.root)).decode()
        answer = {"status": "success", "data": {"cert": chain, "quote": base64.b64encode(quote).decode() or None}}
        return web.json_response(answer, status=self.status)

    async def activate(self, stream) -> None:
        request = await stream.recv_message()
        self.activations.append(request)
        if request.MarbleType in self.refused_types:
            raise grpclib.GRPCError(
                grpclib.const.Status.PERMISSION_DENIED, "marble verification failed: unknown marble type requested"
            )
        if self.refuse:
            raise grpclib.GRPCError(*self.refuse)
        client = stream.peer._transport.get_extra_info("ssl_object").getpeercert(True)
        try:
            if not self.accept_any:
                self.package.check(await self.verifier.verify(request.Quote, marble_report_data(client)))
        except AttestationError as error:
            message = f"marble verification failed: invalid quote: {error}"
            raise grpclib.GRPCError(grpclib.const.Status.PERMISSION_DENIED, message) from error
        pki = self.stale.pop() if self.stale else self.pki
        chain, key = pki.leaf(self.issue_type or request.MarbleType, uuid=request.UUID, lifetime=self.lifetime, age=1.0)
        env = {
            **self.env,
            "MARBLE_PREDEFINED_ROOT_CA": pem_of(pki.marble_root),
            "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA": pem_of(self.pki.root),
            "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN": chain,
            "MARBLE_PREDEFINED_PRIVATE_KEY": key,
            **self.replace_env,
        }
        parameters = Parameters(Env=env, Files=self.files, Argv=self.argv)
        await stream.send_message(ActivationResp(Parameters=parameters))

    def __mapping__(self):
        return {"/rpc.Marble/Activate": Handler(self.activate, Cardinality.UNARY_UNARY, ActivationReq, ActivationResp)}


def impostor() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A mesh certificate that looks like the coordinator's and has another key."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = "MarbleRun Coordinator - Intermediate CA"
    names = [x509.DNSName("localhost")]
    return certificate(subject=name, key=key, issuer=name, issuer_key=key, names=names, ca=True), key
