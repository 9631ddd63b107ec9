"""What can be seen of the running system: its pages, over plain HTTP as in a browser, and what the mesh writes down."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from confidential_bookstore.api.bookthief.v1.bookthief_pb2_grpc import BookthiefServiceStub
from confidential_bookstore.policy.smi.model import TRUST_DOMAIN
from demo.mesh import Mesh
from demo.topology import MARBLES, PAGES, Topology

_SECONDS = 2.0
_LARGEST_PAGE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at everything; what does not answer is missing.

    Attributes:
        services: `/status.json` by service name.
        events: the coordinator's `/events`, oldest first.
        mesh: the `state.json` of `cbs mesh run`; empty if there is none.
    """

    services: Mapping[str, Mapping[str, Any]]
    events: tuple[Mapping[str, Any], ...]
    mesh: Mapping[str, Any] = field(default_factory=dict)

    def counter(self, service: str, name: str) -> int:
        """A counter of a service; 0 if the service does not answer."""
        return int(self.services.get(service, {}).get("counters", {}).get(name, 0))

    def ready(self, names: Iterable[str]) -> bool:
        """Whether all of them serve."""
        return all(self.services.get(name, {}).get("ready") for name in names)

    def refused_by_mesh(self, source: str, service: str) -> tuple[Mapping[str, Any], ...]:
        """Whom sidecars have refused: `rule`, `what`, `layer`, `count`, ...

        Args:
            source: `name.namespace` of who called.
            service: `namespace/name` of the called one.
        """
        refusals = self.mesh.get("refusals", ())
        principal = f"{source}.{TRUST_DOMAIN}"
        return tuple(row for row in refusals if row["source"] == principal and row["destination"] == service)

    def attested(self) -> tuple[str, ...]:
        """The marbles that have a certificate now."""
        return tuple(name for name in MARBLES if self.services.get(name, {}).get("certificateExpires"))

    def latest_activation(self, marble_type: str) -> Mapping[str, Any] | None:
        """What the coordinator wrote down when it last let in a marble of that type."""
        found = [
            event["activation"] for event in self.events if event.get("activation", {}).get("marbleType") == marble_type
        ]
        return found[-1] if found else None

    def denials(self) -> tuple[Mapping[str, Any], ...]:
        """Whom the coordinator turned away, oldest first: `marbleType`, `uuid`, `reason`."""
        return tuple(event["denial"] for event in self.events if "denial" in event)

    def denials_by_type(self) -> dict[str, tuple[Mapping[str, Any], int]]:
        """The latest denial of each marble type, and how many there were."""
        found: dict[str, tuple[Mapping[str, Any], int]] = {}
        for denial in self.denials():
            _, count = found.get(denial["marbleType"], (denial, 0))
            found[denial["marbleType"]] = denial, count + 1
        return found


async def observe(topology: Topology, mesh: Mesh | None = None) -> Observation:
    """Read everything at once."""
    names = tuple(PAGES)
    *pages, events = await asyncio.gather(
        *(asyncio.to_thread(_get, f"{topology.page_url(name)}/status.json") for name in names),
        asyncio.to_thread(_get, f"{topology.events_url}/events"),
    )
    services = {name: page for name, page in zip(names, pages, strict=True) if page is not None}
    return Observation(services, tuple(events or ()), mesh.state() if mesh else {})


async def thefts(address: str) -> list[bookthief_pb2.Attempts]:
    """What the thief there tells of each of its methods; nothing if it does not answer."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer: bookthief_pb2.GetTheftsResponse = await BookthiefServiceStub(channel).GetThefts(
                bookthief_pb2.GetTheftsRequest(), timeout=_SECONDS
            )
        except grpc.aio.AioRpcError:
            return []
    return list(answer.thefts.attempts)


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:  # noqa: S310  # a loopback address of ours
            return json.loads(response.read(_LARGEST_PAGE))
    except (OSError, ValueError):
        return None
