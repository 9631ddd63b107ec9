"""The client API over HTTPS: one table of what data owners, users, marbles and key holders can ask for.

Paths, versions and outcomes are MarbleRun's; `GET /api/v2/generations` is beyond it. An unknown path or method is 405,
which MarbleRun's clients take for "not supported".
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from aiohttp import web

from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import BookstoreError, InvalidRequest
from coordinator.client_api.authentication import Identify, anybody, marble, user
from coordinator.client_api.envelope import error
from coordinator.client_api.features import CounterEndpoint, SignQuoteEndpoint, read_counter, read_quote
from coordinator.client_api.generations import GenerationEndpoint, read_known
from coordinator.client_api.manifests import ManifestEndpoints, read_manifest, read_raw_manifest
from coordinator.client_api.own_quote import OwnQuote
from coordinator.client_api.recovery import LARGEST_UPLOAD, RecoveryEndpoints, read_upload
from coordinator.client_api.routes import Incoming, Route, Version, nothing
from coordinator.client_api.secrets import SecretEndpoints, read_names, read_uploads, read_uploads_v1
from coordinator.client_api.status import Attestation, StatusEndpoints, read_nonce
from coordinator.client_api.updates import UpdateEndpoints
from coordinator.deployment.live import LiveDeployment
from coordinator.manifest.config import FeatureGate
from coordinator.manifest.users import UserSpec
from coordinator.monitoring.events import Clock, utc_now
from coordinator.monitoring.metrics import HttpMetrics
from coordinator.transport.tls import peer_certificate_der

LARGEST_BODY: Final = 2 << 20  # bytes; a manifest has at most 1 MiB, before base64
_LARGEST_QUOTE: Final = 128 << 10
_LARGEST_COUNTER: Final = 4 << 10

T = TypeVar("T")
Routes = Mapping[tuple[str, str], Route[Any, Any]]


class ClientApi:
    """The endpoints, by method and path.

    Args:
        live: what is in force.
        quotes: the coordinator's evidence.
        attestation: what `status` says of it.
        verifier: for `sign-quote`; None where there is nothing that quotes could be verified with.
        tolerant: unknown keys in a manifest are warnings.
        metrics: hears of every request.
        clock: the time, with its zone.
    """

    def __init__(
        self,
        live: LiveDeployment,
        quotes: OwnQuote,
        *,
        attestation: Attestation,
        verifier: Verifier | None,
        tolerant: bool = False,
        metrics: HttpMetrics | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._live = live
        self._metrics = metrics
        self._clock = clock
        self._generations = GenerationEndpoint(live, clock)
        self._routes: Routes = {
            **_public(StatusEndpoints(live, quotes, attestation), self._generations),
            **_manifest(ManifestEndpoints(live, clock, tolerant)),
            **_secrets(SecretEndpoints(live, clock)),
            **_updates(UpdateEndpoints(live, clock, tolerant)),
            **_recovery(RecoveryEndpoints(live)),
            **_features(SignQuoteEndpoint(live, verifier), CounterEndpoint(live)),
        }
        if metrics is not None:
            metrics.know(path for _, path in self._routes)

    async def answer(self, request: web.Request) -> web.Response:
        """Any request at all."""
        if self._metrics is None:
            return await self._answer(request)
        began = time.monotonic()
        with self._metrics.in_flight():
            response = await self._answer(request)
        self._metrics.observe(
            request.method,
            request.path,
            response.status,
            seconds=time.monotonic() - began,
            request_bytes=request.content_length or 0,
            response_bytes=response.content_length or 0,
        )
        return response

    def release(self) -> None:
        """Answers those who wait for a change; for when the coordinator stops."""
        self._generations.release()

    async def _answer(self, request: web.Request) -> web.Response:
        route = self._routes.get((request.method, request.path))
        return await self._serve(route, request) if route is not None else error(405)

    async def _serve(self, route: Route[Any, Any], request: web.Request) -> web.Response:
        try:
            route.require_gate(self._live.current)
            who = route.caller(peer_certificate_der(request.transport), self._clock())
            who(self._live.current)
            try:
                content = await route.read_from(request)
            except InvalidRequest as problem:
                return route.version.mistake(400, str(problem))
            return await route.answer(who, content)
        except web.HTTPRequestEntityTooLarge:
            return route.version.mistake(413, f"request body is larger than {route.largest_body} bytes")
        except BookstoreError as problem:
            return route.refusal(problem)


def _public(status: StatusEndpoints, generations: GenerationEndpoint) -> Routes:
    return {
        ("GET", "/api/v2/status"): _get(Version.V2, nothing, status.status),
        ("GET", "/status"): _get(Version.V1, nothing, status.status_v1),
        ("GET", "/api/v2/quote"): _get(Version.V2, read_nonce, status.quote),
        ("GET", "/quote"): _get(Version.V1, nothing, status.quote_v1),
        ("GET", "/api/v2/generations"): _get(Version.V2, read_known, generations.get),
    }


def _manifest(manifests: ManifestEndpoints) -> Routes:
    return {
        ("GET", "/api/v2/manifest"): _get(Version.V2, nothing, manifests.get),
        ("GET", "/manifest"): _get(Version.V1, nothing, manifests.get_v1),
        ("POST", "/api/v2/manifest"): Route(
            version=Version.V2, caller=anybody, read=read_manifest, answer=manifests.set, largest_body=LARGEST_BODY
        ),
        ("POST", "/manifest"): Route(
            version=Version.V1,
            caller=anybody,
            read=read_raw_manifest,
            answer=manifests.set_v1,
            largest_body=LARGEST_BODY,
            refused=400,
        ),
    }


def _secrets(secrets: SecretEndpoints) -> Routes:
    return {
        ("GET", "/api/v2/secrets"): _by_user(Version.V2, read_names, secrets.get, largest_body=0),
        ("GET", "/secrets"): _by_user(Version.V1, read_names, secrets.get_v1, largest_body=0, refused=400),
        ("POST", "/api/v2/secrets"): _by_user(Version.V2, read_uploads, secrets.set),
        ("POST", "/secrets"): _by_user(Version.V1, read_uploads_v1, secrets.set, refused=400),
    }


def _updates(updates: UpdateEndpoints) -> Routes:
    return {
        ("GET", "/api/v2/update"): _get(Version.V2, nothing, updates.log),
        ("GET", "/update"): _get(Version.V1, nothing, updates.log_v1),
        ("POST", "/api/v2/update"): _by_user(Version.V2, read_manifest, updates.update),
        ("POST", "/update"): _by_user(Version.V1, read_raw_manifest, updates.update_v1, refused=400),
        ("GET", "/api/v2/update-manifest"): _get(Version.V2, nothing, updates.pending),
        ("GET", "/update-manifest"): _get(Version.V1, nothing, updates.pending),
        ("POST", "/api/v2/update-manifest"): _by_user(Version.V2, read_manifest, updates.acknowledge),
        ("POST", "/update-manifest"): _by_user(Version.V1, read_raw_manifest, updates.acknowledge_v1),
        ("POST", "/api/v2/update-cancel"): _by_user(Version.V2, nothing, updates.cancel, largest_body=0),
        ("POST", "/update-cancel"): _by_user(Version.V1, nothing, updates.cancel_v1, largest_body=0),
    }


def _recovery(recovery: RecoveryEndpoints) -> Routes:
    return {
        ("GET", "/api/v2/recover/public-key"): _get(Version.V2, nothing, recovery.public_key),
        ("POST", "/api/v2/recover"): Route(
            version=Version.V2, caller=anybody, read=read_upload, answer=recovery.recover, largest_body=LARGEST_UPLOAD
        ),
        ("POST", "/recover"): Route(version=Version.V1, caller=anybody, read=nothing, answer=recovery.recover_v1),
    }


def _features(quotes: SignQuoteEndpoint, counters: CounterEndpoint) -> Routes:
    return {
        ("POST", "/api/v2/sign-quote"): Route(
            version=Version.V2,
            gate=FeatureGate.SIGN_QUOTE,
            caller=anybody,
            read=read_quote,
            answer=quotes.sign,
            largest_body=_LARGEST_QUOTE,
        ),
        ("POST", "/api/v2/monotonic-counter"): Route(
            version=Version.V2,
            gate=FeatureGate.MONOTONIC_COUNTER,
            caller=marble,
            read=read_counter,
            answer=counters.raise_to,
            largest_body=_LARGEST_COUNTER,
        ),
    }


def _get(
    version: Version, read: Callable[[Incoming], T], answer: Callable[[Identify[None], T], Awaitable[web.Response]]
) -> Route[None, T]:
    """Everybody may read it."""
    return Route(version=version, caller=anybody, read=read, answer=answer)


def _by_user(
    version: Version,
    read: Callable[[Incoming], T],
    answer: Callable[[Identify[UserSpec], T], Awaitable[web.Response]],
    *,
    largest_body: int = LARGEST_BODY,
    refused: int = 500,
) -> Route[UserSpec, T]:
    """For users of the manifest only."""
    return Route(version=version, caller=user, read=read, answer=answer, largest_body=largest_body, refused=refused)
