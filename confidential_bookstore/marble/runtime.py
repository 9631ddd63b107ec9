"""The runtime of a marble: from a bare enclave to a service that other marbles can trust, and back.

    async with Marble.from_environ() as marble:
        warehouse = BookwarehouseServiceStub(marble.channel("bookwarehouse", address))
        server = marble.server((add_BookstoreServiceServicer_to_server, Bookstore(warehouse)))
        await marble.serve(server)

Entering finds the platform, verifies the coordinator, activates, writes files and environment, and starts to renew the
certificate and to follow updates of the manifest: each brings another certificate, and with it other access rules and
traffic splits, in force at once. `serve` runs until SIGTERM or SIGINT and lets calls finish. There is
no mode without attestation.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Self

import structlog
from cryptography import x509

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID
from confidential_bookstore.attestation.collateral import configured_collateral
from confidential_bookstore.attestation.enclave import MeasuredConfig
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.platforms import Platform, find_platform
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.activation import (
    Activation,
    activate,
    activate_once,
    load_or_create_uuid,
    write_files,
)
from confidential_bookstore.marble.channel import DEFAULT_DEADLINE_SECONDS, MarbleChannel
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, measured_package
from confidential_bookstore.marble.enforcement import Enforcement, Follower
from confidential_bookstore.marble.environment import MarbleSettings
from confidential_bookstore.marble.generation_watch import GenerationWatch
from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.marble.renewal import Renewal
from confidential_bookstore.marble.server import GRACE_SECONDS, MarbleServer, Registration
from confidential_bookstore.marble.split_channel import SplitChannel
from confidential_bookstore.marble.tls import split_address
from confidential_bookstore.policy.access import AccessRules
from confidential_bookstore.policy.splits import TrafficSplits
from confidential_bookstore.telemetry.logs import configure_logging
from confidential_bookstore.telemetry.page import StatusPage
from confidential_bookstore.telemetry.status import Status

ACCESS_RULES = "MARBLE_ACCESS_RULES"
TRAFFIC_SPLITS = "MARBLE_TRAFFIC_SPLITS"

_log = structlog.get_logger()


class Marble:
    """One attested workload. Use it as an async context manager, once.

    Attributes:
        settings: what the host said.
        status: counters and readiness; also on the status page.
        env: the environment from the manifest, secrets included.
        files: the files from the manifest, by path.
        argv: the arguments from the manifest.
    """

    def __init__(
        self,
        settings: MarbleSettings,
        *,
        platform: Platform,
        verifier: Verifier | None,
        coordinator_package: Package | None = None,
        pinned_root: x509.Certificate | None = None,
        environ: MutableMapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.status = Status(settings.marble_type, self._facts, reason="activating")
        self.env: dict[str, str] = {}
        self.files: dict[str, bytes] = {}
        self.argv: tuple[str, ...] = ()
        self._platform = platform
        self._trust = CoordinatorTrust(verifier, coordinator_package, pinned_root)
        self._environ = environ
        self._clock = clock
        self._measured: dict[str, Any] = {}
        self._live: LiveIdentity | None = None
        self._channels: list[MarbleChannel] = []
        self._splits: dict[str, SplitChannel] = {}
        self._servers: list[MarbleServer] = []
        self._denies_everything = False
        self._cleanup = contextlib.AsyncExitStack()

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str] = os.environ) -> Marble:
        """The marble that the environment and the measured configuration describe; also sets up logging.

        Raises:
            ConfigurationError: a setting is missing or wrong, or this is no enclave image.
            PlatformError: this machine issues no quotes.
        """
        settings = MarbleSettings.from_environ(environ)
        configure_logging(settings.marble_type, settings.log_format)
        measured = MeasuredConfig.load()
        platform = find_platform(environ)
        return cls(
            settings,
            platform=platform,
            verifier=Verifier(measured.trust_root, configured_collateral(settings.collateral_dir, settings.pccs_url)),
            coordinator_package=measured_package(measured, platform),
            environ=environ,
        )

    @property
    def identity(self) -> Identity:
        """This marble's present certificate, key and roots.

        Raises:
            ConfigurationError: the marble has not been activated.
        """
        return self._activated.current

    @property
    def _activated(self) -> LiveIdentity:
        if self._live is None:
            raise ConfigurationError("the marble is not activated", hint="use it inside `async with`")
        return self._live

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as cleanup:
            page = StatusPage(self.status, *split_address(self.settings.status_address))
            cleanup.callback(page.close)
            self.status_port = page.port
            self._measured = await asyncio.to_thread(self._measure)
            uuid = load_or_create_uuid(self.settings.uuid_file)
            _log.info("marble.activating", uuid=str(uuid), coordinator=self.settings.coordinator_address)
            activation = await activate(self.settings, self._platform, self._trust, uuid)
            self._live = LiveIdentity(activation.identity, self._clock)
            await self._take(activation)
            renewal = Renewal(
                self._live,
                lambda: activate_once(self.settings, self._platform, self._trust, uuid),
                renewed=self._take,
                expired=self._stop_serving,
                clock=self._clock,
            )
            enforcement = Enforcement(self._live, self._followers, renewal.renew_now, clock=self._clock)
            watch = GenerationWatch(self.settings.coordinator_client_address, self._live, enforcement.changed)
            await watch.first()
            cleanup.push_async_callback(self._close)
            for name, upkeep in (("renewal", renewal), ("enforcement", enforcement), ("generations", watch)):
                cleanup.push_async_callback(_cancel, asyncio.create_task(upkeep.run(), name=name))
            self._cleanup = cleanup.pop_all()
        self.status.set_not_ready("activated, not serving yet")
        _log.info("marble.activated", uuid=str(uuid), expires=_rfc3339(activation.identity.not_after), **self._measured)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._cleanup.aclose()

    def server(self, *registrations: Registration) -> MarbleServer:
        """A server for attested peers under the manifest's access rules; start it with `serve`.

        Args:
            registrations: pairs of a stub's `add_XServicer_to_server` and the servicer.

        Raises:
            ConfigurationError: no registration, or malformed rules in MARBLE_ACCESS_RULES.
        """
        server = MarbleServer(
            self._activated,
            registrations,
            address=self.settings.listen_address,
            rules=AccessRules.from_json(self.env.get(ACCESS_RULES, "")),
            status=self.status,
        )
        self._servers.append(server)
        return server

    def channel(
        self, marble_type: str, address: str, *, default_deadline: float = DEFAULT_DEADLINE_SECONDS
    ) -> MarbleChannel:
        """A channel to a marble of that type at `host:port`; it lives as long as this marble."""
        channel = MarbleChannel(self._activated, marble_type, address, default_deadline=default_deadline)
        self._channels.append(channel)
        return channel

    def split_channel(
        self, marble_type: str, addresses: Mapping[str, str], *, default_deadline: float = DEFAULT_DEADLINE_SECONDS
    ) -> SplitChannel:
        """A channel that shares its calls to `marble_type` among the types that MARBLE_TRAFFIC_SPLITS names.

        Args:
            marble_type: what is asked for; without a split, all calls go there.
            addresses: `host:port` by marble type.
            default_deadline: seconds, for unary calls that bring no timeout of their own.

        Raises:
            ConfigurationError: the splits are malformed, or calls are to go to a type that has no address.
        """
        weights = TrafficSplits.from_json(self.env.get(TRAFFIC_SPLITS, "")).backends(marble_type)
        channels = {
            name: self.channel(name, address, default_deadline=default_deadline) for name, address in addresses.items()
        }
        channel = SplitChannel(channels, weights)
        if channel.unreachable:
            raise ConfigurationError(f"{marble_type} is split, and a type has no address", got=channel.unreachable[0])
        self._splits[marble_type] = channel
        return channel

    async def serve(self, server: MarbleServer, *, grace: float = GRACE_SECONDS) -> None:
        """Serves until SIGTERM or SIGINT: then health NOT_SERVING, calls in flight finish, and it returns."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        try:
            await server.start()
            if not self._activated.expired and not self._denies_everything:
                self.status.set_ready()
            await stop.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            self.status.set_not_ready("stopping")
            await server.stop(grace)

    async def _take(self, activation: Activation) -> None:
        """Puts in force what an activation brought: files, environment, and serving again after an expiry."""
        self.files = {path: content.reveal() for path, content in activation.files.items()}
        self.env = {name: value.reveal() for name, value in activation.env.items()}
        self.argv = activation.argv
        await asyncio.to_thread(write_files, activation.files)
        self._environ.update(self.env)
        self._take_rules()
        self._take_splits()
        for follower in self._followers():
            follower.follow()
        if self._denies_everything and self._servers:
            self.status.set_not_ready(_NO_RULES)
            for server in self._servers:
                await server.set_serving(serving=False)
        elif self.status.reason in (_EXPIRED, _REVOKED, _NO_RULES):
            self.status.set_ready()
            for server in self._servers:
                await server.set_serving(serving=True)

    def _take_rules(self) -> None:
        """Malformed rules grant nothing: the earlier ones are what an update has taken out of force."""
        rules, self._denies_everything = AccessRules(), False
        try:
            rules = AccessRules.from_json(self.env.get(ACCESS_RULES, ""))
        except ConfigurationError as error:
            self._denies_everything = True
            hint = "nobody may call until an update of the manifest has well-formed rules"
            _log.error("marble.no_access_rules", reason=str(error), hint=hint)
        for server in self._servers:
            server.set_rules(rules)

    def _take_splits(self) -> None:
        """Malformed splits leave the shares as they are: who is called decides for itself whether it answers."""
        try:
            splits = TrafficSplits.from_json(self.env.get(TRAFFIC_SPLITS, ""))
        except ConfigurationError as error:
            hint = "the earlier ones stay in force until an update of the manifest has well-formed ones"
            _log.error("marble.no_traffic_splits", reason=str(error), hint=hint)
            return
        for marble_type, channel in self._splits.items():
            channel.set_weights(splits.backends(marble_type))
            if channel.unreachable:
                _log.error("channel.no_address", marble_type=marble_type, backends=channel.unreachable)

    async def _stop_serving(self) -> None:
        revoked = self._activated.revoked
        self.status.set_not_ready(_REVOKED if revoked else _EXPIRED)
        for server in self._servers:
            await server.set_serving(serving=False)
        event = "marble.revoked" if revoked else "marble.expired"
        _log.error(event, hint="see the renewal's log lines; restart the marble when the cause is gone")

    def _followers(self) -> list[Follower]:
        return [*self._servers, *self._channels]

    async def _close(self) -> None:
        for server in self._servers:
            await server.stop(0)
        for channel in self._channels:
            await channel.close()

    def _measure(self) -> dict[str, Any]:
        """What this enclave is, from its own quote."""
        quote = parse_quote(self._platform.quote(bytes(64)))
        return {
            "platform": self._platform.name,
            "simulated": quote.root_key_id != INTEL_ROOT_KEY_ID,
            "uniqueID": quote.mr_enclave,
            "signerID": quote.mr_signer,
        }

    def _facts(self) -> dict[str, Any]:
        identity = self._live.current if self._live else None
        return {
            "marbleType": self.settings.marble_type,
            "uuid": identity.uuid if identity else None,
            **self._measured,
            "certificateExpires": _rfc3339(identity.not_after) if identity else None,
        }


_EXPIRED = "the certificate has expired and could not be renewed"
_REVOKED = "revoked by a manifest update"
_NO_RULES = "the access rules of the manifest are malformed: nobody may call"


def _rfc3339(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat().replace("+00:00", "Z")


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
