"""The coordinator as a whole: what it is made of, and how it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.server import Server as GrpcServer

from confidential_bookstore import __version__
from confidential_bookstore.attestation.collateral import configured_collateral
from confidential_bookstore.attestation.enclave import MeasuredConfig
from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import ConfigurationError, StateConflict
from coordinator.client_api.api import LARGEST_BODY, ClientApi
from coordinator.client_api.own_quote import OwnQuote
from coordinator.client_api.status import Attestation
from coordinator.deployment.builders import Builders
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.live import LiveDeployment, load_or_begin, seal
from coordinator.marble_api import MarbleApi
from coordinator.monitoring.events import EventLog, utc_now
from coordinator.monitoring.metrics import ActivationCounters, GrpcMetrics, HttpMetrics
from coordinator.monitoring.pages import Monitoring
from coordinator.pki.authority import Authority
from coordinator.sealed import open_sealed_place
from coordinator.sealing.handover import KeyHandover
from coordinator.settings import Address, CoordinatorSettings
from coordinator.transport.http_server import HttpServer, open_http_server
from coordinator.transport.listener import Limits, Listener, grpc_inside, open_listener
from coordinator.transport.tls import AnyClientCertContext, ClientCertificate

log = structlog.get_logger()

MESH_LIMITS = Limits(request_bytes=256 << 10)  # some three of the largest requests
# Every marble keeps a connection, to hear of updates.
CLIENT_LIMITS = Limits(connections=2048, request_bytes=LARGEST_BODY + (64 << 10))
MONITORING_LIMITS = Limits(connections=32, request_bytes=64 << 10)
GRACE = 20.0  # seconds for requests that are open when it stops
WITHOUT_QUOTES = "INTEROPERABILITY MODE: marbles are admitted without a quote"
_FOLLOW_SECONDS = 0.5  # how long another coordinator's change may go unnoticed


@dataclass(frozen=True, slots=True)
class _Running:
    mesh: Listener
    client: HttpServer
    status: HttpServer | None


@dataclass(frozen=True, slots=True)
class _Watched:
    """What the operator can see."""

    events: EventLog
    activations: ActivationCounters
    http: HttpMetrics
    grpc: GrpcMetrics


class Coordinator:
    """`async with Coordinator(...)`: serves between the first line of the block and the last.

    Args:
        settings: what the operator set.
        platform: quotes and seals for this very program.
        verifier: of the marbles' quotes. Platform and verifier are None in the interoperability mode, and only there.
        mesh_limits: of the Marble API,
        client_limits: of the client API.
        clock: the time, with its zone.
    """

    def __init__(
        self,
        settings: CoordinatorSettings,
        *,
        platform: Platform | None,
        verifier: Verifier | None,
        mesh_limits: Limits = MESH_LIMITS,
        client_limits: Limits = CLIENT_LIMITS,
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._platform = platform
        self._verifier = verifier
        self._mesh_limits = mesh_limits
        self._client_limits = client_limits
        self._clock = clock
        self._running: _Running | None = None
        self._open = contextlib.AsyncExitStack()

    @property
    def mesh_port(self) -> int:
        """Of the Marble API."""
        return self._require_running().mesh.port

    @property
    def client_port(self) -> int:
        """Of the client API."""
        return self._require_running().client.port

    @property
    def status_port(self) -> int | None:
        """Of metrics and events; None if they are off."""
        status = self._require_running().status
        return status.port if status else None

    async def __aenter__(self) -> Self:
        """Starts.

        Raises:
            SealedStateError: there is sealed state which cannot be unsealed, or it is in use. It is left as it is.
            PlatformError: the platform does not quote or does not seal.
            ConfigurationError: an address is taken.
        """
        async with contextlib.AsyncExitStack() as stack:
            self._running = await self._start(stack)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Accepts nothing more, lets open requests finish, and stops."""
        await self._open.aclose()
        self._running = None

    async def serve(self, stop: asyncio.Event) -> None:
        """Returns when it is to stop."""
        await stop.wait()
        log.info("stopping")

    async def _start(self, stack: contextlib.AsyncExitStack) -> _Running:
        settings, platform = self._settings, self._platform
        place = await open_sealed_place(settings, platform, self._verifier, stack)
        restore = functools.partial(Deployment.restore, tolerant=settings.tolerant)
        deployment, recovering = await asyncio.to_thread(load_or_begin, place.sealed, self._new_authority, restore)
        if recovering is None and place.is_not_shared_yet:
            with contextlib.suppress(StateConflict):  # another coordinator does the same
                await asyncio.to_thread(seal, place.sealed, deployment)
        live = LiveDeployment(deployment, place.sealed, restore=restore, recovering=recovering)
        stack.push_async_callback(live.settle)
        await self._set_startup_manifest(live)
        if settings.shared is not None:
            stack.push_async_callback(_cancel, asyncio.create_task(live.follow(_FOLLOW_SECONDS), name="shared state"))
        quotes = await OwnQuote.obtain(platform, live.current.authority.root.public_bytes(Encoding.DER))
        builders = Builders()
        stack.callback(builders.close)
        watched = _Watched(EventLog(self._clock), ActivationCounters(), HttpMetrics(), GrpcMetrics())
        servers: list[Listener | HttpServer] = []
        stack.push_async_callback(_stop, servers)
        mesh = await self._open_mesh(live, settings.mesh_address, self._marble_api(live, builders, watched))
        servers.append(mesh)
        if place.handover is not None and settings.shared is not None:
            servers.append(await self._open_mesh(live, settings.shared.key_address, place.handover))
        api = ClientApi(
            live,
            quotes,
            attestation=self._attestation(),
            verifier=self._verifier,
            tolerant=settings.tolerant,
            clock=self._clock,
            metrics=watched.http,
        )
        client = await self._open_client(live, api)
        servers.append(client)
        stack.callback(api.release)
        status = await self._open_monitoring(live, watched)
        if status is not None:
            servers.append(status)
        log.info(
            "coordinator is serving",
            state=live.current.state.phase.name,
            platform=platform.name if platform else "none",
            trust_root=self._verifier.root.key_id if self._verifier else "none",
            simulated=self._verifier.root.simulated if self._verifier else True,
            mesh_port=mesh.port,
            client_port=client.port,
        )
        if self._verifier is None:
            log.warning(WITHOUT_QUOTES, hint="nobody can verify this process; leave OE_SIMULATION out to attest")
        return _Running(mesh, client, status)

    async def _set_startup_manifest(self, live: LiveDeployment) -> None:
        """The first manifest, from a file; nothing happens if it is in force already, else it must be the first one."""
        path = self._settings.startup_manifest
        if path is None:
            return
        try:
            raw = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise ConfigurationError("EDG_STARTUP_MANIFEST cannot be read", got=str(error)) from error

        def accept(deployment: Deployment) -> tuple[Deployment, dict[str, bytes]]:
            if deployment.manifest is not None and deployment.manifest.raw == raw:
                return deployment, {}
            return deployment.accept_manifest(raw, self._clock(), tolerant=self._settings.tolerant)

        if await live.change(accept):
            log.warning(
                "recovery secrets of the startup manifest are lost", hint="set the manifest over the client API"
            )

    def _marble_api(self, live: LiveDeployment, builders: Builders, watched: _Watched) -> MarbleApi:
        return MarbleApi(
            live=live,
            verifier=self._verifier,
            builders=builders,
            events=watched.events,
            counters=watched.activations,
            calls=watched.grpc,
            trust_domain=self._settings.trust_domain,
            leaf_lifetime=self._settings.leaf_lifetime,
            clock=self._clock,
        )

    async def _open_mesh(self, live: LiveDeployment, address: Address, service: MarbleApi | KeyHandover) -> Listener:
        """For who proves by a quote what holds the client certificate: marbles, and other coordinators."""
        authority = live.current.authority
        context = AnyClientCertContext(
            authority.marble_root,
            authority.intermediate_key,
            client_certificate=ClientCertificate.REQUIRED,
            alpn=(b"h2",),
        )

        def renew(deployment: Deployment) -> None:
            context.serve(deployment.authority.marble_root, deployment.authority.intermediate_key)

        live.subscribe(renew)
        return await open_listener(
            address,
            grpc_inside(GrpcServer([service])),
            context=context,
            limits=self._mesh_limits,
            tls_error_level=self._settings.tls_error_level,
        )

    async def _open_client(self, live: LiveDeployment, api: ClientApi) -> HttpServer:
        authority = live.current.authority
        context = AnyClientCertContext(
            authority.root,
            authority.root_key,
            client_certificate=ClientCertificate.OPTIONAL,
            alpn=(b"http/1.1",),
        )

        def renew(deployment: Deployment) -> None:
            context.serve(deployment.authority.root, deployment.authority.root_key)

        live.subscribe(renew)
        return await open_http_server(
            self._settings.client_address,
            api.answer,
            context=context,
            limits=self._client_limits,
            largest_body=LARGEST_BODY,
            tls_error_level=self._settings.tls_error_level,
        )

    async def _open_monitoring(self, live: LiveDeployment, watched: _Watched) -> HttpServer | None:
        address = self._settings.status_address
        if address is None:
            return None
        pages = Monitoring(
            live=live,
            events=watched.events,
            counters=watched.activations,
            http=watched.http,
            grpc=watched.grpc,
            version=__version__,
            interoperability=self._verifier is None,
        )
        return await open_http_server(address, pages.answer, context=None, limits=MONITORING_LIMITS, largest_body=1)

    def _new_authority(self) -> Authority:
        settings, verifier = self._settings, self._verifier
        kind = "simulated root" if verifier and verifier.root.simulated else "root"
        label = f"marbles attested under {kind} {verifier.root.key_id}" if verifier else WITHOUT_QUOTES
        return Authority.create(
            dns_names=settings.dns_names, ip_addresses=settings.ip_addresses, label=label, now=self._clock()
        )

    def _attestation(self) -> Attestation:
        platform, verifier = self._platform, self._verifier
        return Attestation(
            platform=platform.name if platform else "none",
            trust_root=verifier.root.key_id if verifier else "",
            simulated=verifier.root.simulated if verifier else True,
            marbles_without_quote=verifier is None,
        )

    def _require_running(self) -> _Running:
        if self._running is None:
            raise RuntimeError("the coordinator is not running")
        return self._running


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT; to be made before anything starts."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _stop(servers: list[Listener | HttpServer]) -> None:
    """All at the same time."""
    await asyncio.gather(*(server.stop(GRACE) for server in servers))


def make_verifier(settings: CoordinatorSettings, measured: MeasuredConfig) -> Verifier:
    """The verifier of marbles' quotes, under the root that was measured together with the code."""
    collateral = configured_collateral(settings.collateral_directory, settings.pccs_url)
    return Verifier(measured.trust_root, collateral)
