"""What an endpoint is, and how errors of the tree become answers in the two versions of the API.

A request is checked in MarbleRun's order: feature gate, then client certificate, then body or query. An unauthorised
caller never gets to know whether the rest of the request was any good.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aiohttp import web
from multidict import MultiMapping

from confidential_bookstore.errors import BookstoreError, FeatureDisabled, InvalidRequest, NoUpdatePending, Unauthorized
from coordinator.client_api.authentication import Identify
from coordinator.client_api.envelope import error, fail
from coordinator.deployment.deployment import Deployment
from coordinator.manifest.config import FeatureGate

C = TypeVar("C")
T = TypeVar("T")

_LARGE = 64 << 10  # bytes of a body which others would have to wait for


class Version(enum.Enum):
    """Of the API. The old one knows no `fail`."""

    V1 = 1
    V2 = 2

    def mistake(self, status: int, message: str) -> web.Response:
        """The client's mistake."""
        return fail(status, message) if self is Version.V2 else error(status, message)


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a caller sends along: the query, and the body, which is empty where none is expected."""

    query: MultiMapping[str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[C, T]):
    """One endpoint.

    Attributes:
        version: of the API.
        caller: makes of certificate and time the function that knows the caller.
        read: what the endpoint needs of a request; raises InvalidRequest.
        answer: gets who calls and what was read; may raise any error of the tree.
        gate: the feature that the manifest has to enable.
        largest_body: in bytes; a body is not read at all if it is 0.
        refused: the status of errors that have none of their own.
    """

    version: Version
    caller: Callable[[bytes | None, dt.datetime], Identify[C]]
    read: Callable[[Incoming], T]
    answer: Callable[[Identify[C], T], Awaitable[web.Response]]
    gate: FeatureGate | None = None
    largest_body: int = 0
    refused: int = 500

    def require_gate(self, deployment: Deployment) -> None:
        """Whether the endpoint is switched on.

        Raises:
            FeatureDisabled: it is not.
        """
        manifest = deployment.manifest
        if self.gate is not None and (manifest is None or self.gate not in manifest.config.feature_gates):
            raise FeatureDisabled(f"{self.gate.value} feature is not enabled in the manifest")

    async def read_from(self, request: web.Request) -> T:
        """What the endpoint needs. Bodies that take long to parse are parsed in a thread.

        Raises:
            InvalidRequest: body or query is malformed.
            HTTPRequestEntityTooLarge: the body is larger than it may be.
        """
        incoming = Incoming(request.query, await _body(request, self.largest_body))
        if len(incoming.body) > _LARGE:
            return await asyncio.to_thread(self.read, incoming)
        return self.read(incoming)

    def refusal(self, problem: BookstoreError) -> web.Response:
        """The answer to a request that was understood and is not done."""
        if isinstance(problem, Unauthorized):
            return self.version.mistake(401, str(problem))
        if isinstance(problem, FeatureDisabled):
            return error(403, str(problem))
        if isinstance(problem, NoUpdatePending):
            return error(404, str(problem))
        return error(self.refused, str(problem))


def nothing(_incoming: Incoming) -> None:
    """Where the request is all there is to say."""


async def _body(request: web.Request, most: int) -> bytes:
    body = bytearray()
    if most:
        try:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > most:
                    raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(body))
        except web.RequestPayloadError as error:
            raise InvalidRequest("request body cannot be read", hint="its length or encoding is wrong") from error
    return bytes(body)
