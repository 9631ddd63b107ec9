"""The Marble API: `rpc.Marble/Activate`, MarbleRun's protocol on the wire.

An activation is checked in a fixed order: state, client certificate, marble type and its limit, quote (genuine, of this
very TLS connection's key, of the code that the manifest names), UUID, certificate request. Without a verifier no quote
is checked: that is the interoperability mode, which exists for coordinators outside enclaves only and says so wherever
it can.

Activations run side by side. Only those of types with a limit come together, for the moment in which they are counted.
"""

from __future__ import annotations

import datetime as dt
import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from google.protobuf.message import DecodeError
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from confidential_bookstore.api.marblerun.v1 import marble_pb2
from confidential_bookstore.attestation.binding import marble_report_data
from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import (
    ActivationDenied,
    AttestationError,
    BookstoreError,
    InvalidRequest,
    ManifestError,
    PackageMismatch,
)
from coordinator.deployment.activation import (
    ActivationRequest,
    Parameters,
    build_parameters,
    check_request,
    makes_rsa_keys,
    parse_uuid,
)
from coordinator.deployment.builders import Builders
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import LiveDeployment
from coordinator.manifest import Manifest
from coordinator.manifest.infrastructures import INFRASTRUCTURE, check_infrastructures
from coordinator.monitoring.events import EventLog, utc_now
from coordinator.monitoring.metrics import ActivationCounters, GrpcMetrics
from coordinator.pki.certificate_request import MAX_REQUEST_SIZE
from coordinator.transport.paced_log import PacedLog
from coordinator.transport.tls import peer_certificate_der
from coordinator.transport.turns import Turns

log = structlog.get_logger()

# Bytes of each field. A quote has about 5 kB, with the certificate chain of the platform in it.
LARGEST_QUOTE = 64 * 1024
LONGEST_TEXT = 256

_METHOD = "Activate"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarbleApi:
    """The service.

    Attributes:
        verifier: of quotes; None in the interoperability mode.
        builders: make what a marble gets.
        trust_domain: in the names of marbles.
        leaf_lifetime: of their certificates.
        clock: the time, with its zone.
        turns: one for each activation, so that many activations at once do not hold up the client API.
        refusals: anybody on the network can cause them.
    """

    live: LiveDeployment
    verifier: Verifier | None
    builders: Builders
    events: EventLog
    counters: ActivationCounters
    calls: GrpcMetrics
    trust_domain: str
    leaf_lifetime: dt.timedelta
    clock: Callable[[], dt.datetime] = utc_now
    turns: Turns = field(default_factory=Turns)
    refusals: PacedLog = field(default_factory=lambda: PacedLog("warning"))

    def __mapping__(self) -> dict[str, Handler]:
        """What grpclib asks a service for."""
        request, response = marble_pb2.ActivationReq, marble_pb2.ActivationResp
        return {"/rpc.Marble/Activate": Handler(self._serve, Cardinality.UNARY_UNARY, request, response)}

    async def activate(self, request: ActivationRequest, certificate_der: bytes | None) -> Parameters:
        """What the marble gets.

        Args:
            request: not trusted.
            certificate_der: which the other end of the connection has proven to hold.

        Raises:
            GRPCError: it is refused, with MarbleRun's status and message.
            BookstoreError: likewise; the class says which status.
        """
        await self.turns.take()
        deployment = self.live.current
        manifest = deployment.manifest
        self.counters.attempted(request.marble_type, manifest.marbles if manifest else ())
        if manifest is None:
            raise GRPCError(Status.FAILED_PRECONDITION, "cannot accept marbles in current state")
        if certificate_der is None:
            raise GRPCError(Status.UNAUTHENTICATED, "couldn't get marble TLS certificate")
        _check_sizes(request)
        claims = await self._verify(deployment, manifest, request, certificate_der)
        uuid = parse_uuid(request.uuid)
        now = self.clock()
        parameters = await self._build(deployment, manifest, request, uuid, now)
        await self._count(manifest, request)
        self.counters.succeeded(request.marble_type, str(uuid))
        self.events.activated(request.marble_type, str(uuid), request.quote, claims, now + self.leaf_lifetime)
        if claims is None:
            log.warning("marble activated WITHOUT A QUOTE", marble_type=request.marble_type, uuid=str(uuid))
        else:
            log.info("marble activated", marble_type=request.marble_type, uuid=str(uuid), simulated=claims.simulated)
        return parameters

    async def _verify(
        self, deployment: Deployment, manifest: Manifest, request: ActivationRequest, certificate_der: bytes
    ) -> Claims | None:
        """What the quote of a marble of the manifest proves; None in the interoperability mode."""
        try:
            marble = check_request(manifest, request, deployment.state.activations)
            if self.verifier is None:
                return None
            claims = await self.verifier.verify(request.quote, marble_report_data(certificate_der))
            deployment.packages[marble.package].to_package().check(claims)
            check_infrastructures(claims, manifest.infrastructures.values())
        except ActivationDenied as error:
            raise _verification_failed(str(error)) from error
        except PackageMismatch as error:
            what = "infrastructure" if error.rule == INFRASTRUCTURE else "quote"
            raise _verification_failed(f"invalid {what}: {error}") from error
        except AttestationError as error:
            raise _verification_failed(f"invalid quote: {error}", Status[error.grpc_status]) from error
        return claims

    async def _build(
        self, deployment: Deployment, manifest: Manifest, request: ActivationRequest, uuid: UUID, now: dt.datetime
    ) -> Parameters:
        """Certificate, secrets and rendered templates, in a thread of the pool that suits what has to be made."""
        build = functools.partial(
            build_parameters,
            manifest,
            request.marble_type,
            uuid,
            request.csr,
            authority=deployment.authority,
            secrets=deployment.secrets,
            root_secret=deployment.root_secret,
            previous_root_secret=deployment.previous_root_secret,
            trust_domain=self.trust_domain,
            lifetime=self.leaf_lifetime,
            now=now,
        )
        try:
            return await self.builders.run(build, slow=makes_rsa_keys(manifest, request.marble_type))
        except InvalidRequest as error:
            raise GRPCError(Status.INTERNAL, f"generating marble authentication secrets: {error}") from error
        except ManifestError as error:
            raise GRPCError(Status.INTERNAL, f"generating marble parameters: {error}") from error

    async def _count(self, manifest: Manifest, request: ActivationRequest) -> None:
        """Takes one of the activations of a type that has a limit. Two may have come this far for the last one."""
        if manifest.marbles[request.marble_type].max_activations == 0:
            return
        try:
            await self.live.change(lambda deployment: deployment.count_activation(request))
        except ActivationDenied as error:
            raise _verification_failed(str(error)) from error

    async def _serve(self, stream: Stream[Any, Any]) -> None:
        """The gRPC side of `activate`."""
        self.calls.started(_METHOD)
        status = Status.INTERNAL
        try:
            await self._answer(stream)
            status = Status.OK
        except GRPCError as error:
            status = error.status
            raise
        finally:
            self.calls.handled(_METHOD, status)

    async def _answer(self, stream: Stream[Any, Any]) -> None:
        request = await _receive(stream)
        self.calls.received(_METHOD)
        try:
            parameters = await self.activate(request, _certificate_of(stream))
        except GRPCError as error:
            self._denied(request, error)
            raise
        except BookstoreError as error:
            refusal = GRPCError(Status[error.grpc_status], str(error))
            self._denied(request, refusal)
            raise refusal from error
        await stream.send_message(_to_message(parameters))
        self.calls.sent(_METHOD)

    def _denied(self, request: ActivationRequest, error: GRPCError) -> None:
        marble_type, uuid, reason = request.marble_type, request.uuid, error.message or error.status.name
        self.events.denied(marble_type, uuid, reason)
        self.refusals(
            "activation denied",
            marble_type=marble_type[:LONGEST_TEXT],
            uuid=uuid[:LONGEST_TEXT],
            status=error.status.name,
            reason=reason,
        )


def _verification_failed(reason: str, status: Status = Status.PERMISSION_DENIED) -> GRPCError:
    return GRPCError(status, f"marble verification failed: {reason}")


def _check_sizes(request: ActivationRequest) -> None:
    for name, value, most in (
        ("Quote", request.quote, LARGEST_QUOTE),
        ("CSR", request.csr, MAX_REQUEST_SIZE),
        ("MarbleType", request.marble_type, LONGEST_TEXT),
        ("UUID", request.uuid, LONGEST_TEXT),
    ):
        if len(value) > most:
            raise InvalidRequest(f"{name} is too long", got=len(value), expected=f"at most {most}")


async def _receive(stream: Stream[Any, Any]) -> ActivationRequest:
    try:
        message = await stream.recv_message()
    except (DecodeError, AssertionError, struct.error, NotImplementedError) as error:
        # What grpclib raises for garbage, for a message or its head that is cut short, and for a compressed one.
        raise GRPCError(Status.INVALID_ARGUMENT, "request cannot be read") from error
    if message is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "request is missing")
    return ActivationRequest(marble_type=message.MarbleType, uuid=message.UUID, csr=message.CSR, quote=message.Quote)


def _certificate_of(stream: Stream[Any, Any]) -> bytes | None:
    """The DER, from the transport: grpclib itself shows a parsed form, which is empty for what was not verified."""
    return peer_certificate_der(stream.peer._transport)  # noqa: SLF001


def _to_message(parameters: Parameters) -> marble_pb2.ActivationResp:
    return marble_pb2.ActivationResp(
        Parameters=marble_pb2.Parameters(Files=parameters.files, Env=parameters.env, Argv=parameters.argv)
    )
