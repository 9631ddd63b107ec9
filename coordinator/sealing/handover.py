"""The key of a shared state, from one coordinator to another: `keypb.API/GetKeyEncryptionKey`, MarbleRun's protocol.

Both sides verify the other one first. The asking side takes a fresh quote from the peer's client API and pins the
certificate that follows from it (as a marble does before it activates); only then it sends anything. The answering side
finds the hash of the TLS client certificate in the quote, so the key reaches the attested enclave and nobody who relays
its quote.

Who gets the key: production enclaves of the same signer and product with at least the security version of the one that
answers; under UniqueKey, the very same code. Who is asked: the same signer and product in any version, or a newer
version could not follow an older one. (It would also unseal what an older version has sealed: this is what ProductKey
means.)
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from confidential_bookstore.api.marblerun.v1 import key_handover_pb2, key_handover_pb2_grpc
from confidential_bookstore.attestation.binding import marble_report_data
from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.platforms import Platform, SealPolicy
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import (
    AttestationError,
    BookstoreError,
    CoordinatorUnavailable,
    CoordinatorUntrusted,
    PlatformError,
)
from confidential_bookstore.marble.activation_key import new_activation_key
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, mesh_certificate, verify_coordinator
from confidential_bookstore.marble.credentials import pinned_credentials
from confidential_bookstore.secret import Secret
from coordinator.sealing.shared_keys import KEY_ENCRYPTION_KEY, SharedKey, SharedKeys
from coordinator.transport.tls import peer_certificate_der

DEFAULT_PORT: Final = 5433
LARGEST_QUOTE: Final = 64 * 1024

_CALL_SECONDS = 10.0
_PEER_SECONDS = 40.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds

log = structlog.get_logger()


async def own_claims(platform: Platform, verifier: Verifier) -> Claims:
    """What this program's own quote says; the measure for others.

    Raises:
        AttestationError: it does not verify; for debug enclaves, it never does.
        PlatformError: there is no quote, or it names no signer.
    """
    report_data = marble_report_data(secrets.token_bytes(32))
    claims = await verifier.verify(await asyncio.to_thread(platform.quote, report_data), report_data)
    if not claims.signer_id:
        raise PlatformError(
            "a state is shared among enclaves of one signer only", got=claims.tee, hint="run a single coordinator here"
        )
    return claims


def product_of(own: Claims, *, security_version: int, unique_id: str = "") -> Package:
    """This program's product, on platforms in a state that its own platform, or any package by default, may have."""
    return Package(
        unique_id=unique_id,
        signer_id=own.signer_id,
        product_id=own.product_id,
        security_version=security_version,
        accepted_tcb_statuses=tuple({*Package().accepted_tcb_statuses, own.tcb_status}),
    )


def may_have(shared: SharedKey, own: Claims) -> Package:
    """Who may have a key: see above."""
    unique_id = own.unique_id if shared.policy is SealPolicy.UNIQUE_KEY else ""
    return product_of(own, security_version=own.security_version or 0, unique_id=unique_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHandover:
    """The service, for a listener that requires a client certificate and takes any.

    The listener's certificate must have the key of the coordinator's intermediate certificate.
    """

    keys: SharedKeys
    verifier: Verifier
    own: Claims

    def __mapping__(self) -> dict[str, Handler]:
        """What grpclib asks a service for."""
        request, response = key_handover_pb2.GetKeyEncryptionKeyRequest, key_handover_pb2.GetKeyEncryptionKeyResponse
        return {"/keypb.API/GetKeyEncryptionKey": Handler(self._serve, Cardinality.UNARY_UNARY, request, response)}

    async def key_for(self, quote: bytes, certificate_der: bytes | None) -> Secret[bytes]:
        """The key, for who has proven to hold this certificate and sent this quote.

        Raises:
            GRPCError: refused.
        """
        if certificate_der is None:
            raise GRPCError(Status.UNAUTHENTICATED, "couldn't get client TLS certificate")
        shared = self.keys.current
        if shared is None:
            raise GRPCError(Status.FAILED_PRECONDITION, "this coordinator has no key yet")
        if len(quote) > LARGEST_QUOTE:
            raise GRPCError(Status.INVALID_ARGUMENT, "quote is too long")
        try:
            claims = await self.verifier.verify(quote, marble_report_data(certificate_der))
            may_have(shared, self.own).check(claims)
        except AttestationError as error:
            raise GRPCError(Status[error.grpc_status], f"invalid quote: {error}") from error
        log.info("key of the shared state handed over", unique_id=claims.unique_id, svn=claims.security_version)
        return shared.key

    async def _serve(self, stream: Stream[Any, Any]) -> None:
        try:
            message = await stream.recv_message()
        except (DecodeError, AssertionError, struct.error, NotImplementedError) as error:
            # What grpclib raises for garbage, for a message or its head that is cut short, and for a compressed one.
            raise GRPCError(Status.INVALID_ARGUMENT, "request cannot be read") from error
        if message is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "request is missing")
        try:
            key = await self.key_for(message.quote, peer_certificate_der(stream.peer._transport))  # noqa: SLF001
        except GRPCError as error:
            log.warning("key of the shared state refused", status=error.status.name, reason=error.message)
            raise
        await stream.send_message(key_handover_pb2.GetKeyEncryptionKeyResponse(key=key.reveal()))


@dataclass(frozen=True, slots=True)
class Peer:
    """Another coordinator: `host:port` of its client API and of its key handover."""

    client_address: str
    key_address: str


def peers_at(host: str, client_port: int, key_port: int = DEFAULT_PORT) -> Sequence[Peer]:
    """All coordinators behind a name, by its addresses of this moment; none if it does not resolve."""
    try:
        found = socket.getaddrinfo(host, key_port, type=socket.SOCK_STREAM)
    except OSError as error:
        log.warning("the other coordinators are not found", name=host, reason=str(error))
        return ()
    hosts = dict.fromkeys(
        f"[{address[0]}]" if family == socket.AF_INET6 else address[0] for family, *_, address in found
    )
    return tuple(Peer(f"{name}:{client_port}", f"{name}:{key_port}") for name in hosts)


class PeerKeys:
    """Asks the peers, for `SharedKeys`. Called in a thread other than that of the event loop, which does the work.

    Who has asked all of them in vain is answered with nothing for a second, and after each further time for twice as
    long, up to half a minute: several that start together have the key soon, and nobody is asked all the time.

    Args:
        peers: those of this moment.
        platform: quotes for this program.
        verifier: of the peers' quotes.
        own: claims of this program.
        loop: runs.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        peers: Callable[[], Iterable[Peer]],
        *,
        platform: Platform,
        verifier: Verifier,
        own: Claims,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers = peers
        self._platform = platform
        self._verifier = verifier
        self._own = own
        self._loop = loop
        self._pause = _FIRST_PAUSE
        self._clock = clock
        self._not_before = float("-inf")

    def __call__(self) -> Iterator[Secret[bytes]]:
        """Their keys, one after the other; whether it is the right one, only the state tells."""
        if self._clock() < self._not_before:
            return
        for peer in self._peers():
            fetching = fetch_key(peer, platform=self._platform, verifier=self._verifier, own=self._own)
            try:
                key = asyncio.run_coroutine_threadsafe(fetching, self._loop).result(_PEER_SECONDS + 1)
            except (BookstoreError, TimeoutError) as error:
                log.info("no key from another coordinator", peer=peer.key_address, reason=str(error))
                continue
            self._pause = _FIRST_PAUSE
            yield key
        self._not_before = self._clock() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


async def fetch_key(peer: Peer, *, platform: Platform, verifier: Verifier, own: Claims) -> Secret[bytes]:
    """Verifies one peer, then asks it.

    Raises:
        CoordinatorUnavailable: it does not answer, or has no key yet.
        CoordinatorUntrusted: its evidence is not accepted, or it refuses.
        PlatformError: no quote could be made.
    """
    try:
        async with asyncio.timeout(_PEER_SECONDS):
            return await _fetch_key(peer, platform, CoordinatorTrust(verifier, product_of(own, security_version=0)))
    except TimeoutError as error:
        raise CoordinatorUnavailable("the peer takes too long", expected=f"at most {_PEER_SECONDS:g} s") from error


async def _fetch_key(peer: Peer, platform: Platform, trust: CoordinatorTrust) -> Secret[bytes]:
    verified = await verify_coordinator(peer.client_address, trust)
    client = new_activation_key(())
    served = await mesh_certificate(
        peer.key_address, verified, chain_pem=client.certificate_pem, key_pem=client.private_key_pem
    )
    credentials = pinned_credentials(served.pem, chain_pem=client.certificate_pem, key_pem=client.private_key_pem)
    options = [
        ("grpc.ssl_target_name_override", served.server_name),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]
    quote = await asyncio.to_thread(platform.quote, marble_report_data(client.certificate_der))
    async with grpc.aio.secure_channel(peer.key_address, credentials, options=options) as channel:
        try:
            answer = await key_handover_pb2_grpc.APIStub(channel).GetKeyEncryptionKey(
                key_handover_pb2.GetKeyEncryptionKeyRequest(quote=quote), timeout=_CALL_SECONDS
            )
        except grpc.aio.AioRpcError as error:
            words = error.details() or error.code().name
            if error.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED):
                raise CoordinatorUntrusted(f"the peer refuses: {words}") from error
            raise CoordinatorUnavailable(f"the peer gives no key now: {words}") from error
    key = bytes(answer.key)
    if len(key) != KEY_ENCRYPTION_KEY:
        raise CoordinatorUntrusted("the peer's key has the wrong size", got=len(key), expected=KEY_ENCRYPTION_KEY)
    return Secret(key)
