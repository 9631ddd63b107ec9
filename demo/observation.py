"""What can be seen of the running system from its pages: read over plain HTTP, as a person would in a browser."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demo.topology import MARBLES, PAGES, Topology

_SECONDS = 2.0
_LARGEST_PAGE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at everything; what does not answer is missing.

    Attributes:
        services: `/status.json` by service name.
        events: the coordinator's `/events`, oldest first.
    """

    services: Mapping[str, Mapping[str, Any]]
    events: tuple[Mapping[str, Any], ...]

    def counter(self, service: str, name: str) -> int:
        """A counter of a service; 0 if the service does not answer."""
        return int(self.services.get(service, {}).get("counters", {}).get(name, 0))

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


async def observe(topology: Topology) -> Observation:
    """Read all pages at once."""
    names = tuple(PAGES)
    *pages, events = await asyncio.gather(
        *(asyncio.to_thread(_get, f"{topology.page_url(name)}/status.json") for name in names),
        asyncio.to_thread(_get, f"{topology.events_url}/events"),
    )
    services = {name: page for name, page in zip(names, pages, strict=True) if page is not None}
    return Observation(services, tuple(events or ()))


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as response:  # noqa: S310  # a loopback address of ours
            return json.loads(response.read(_LARGEST_PAGE))
    except (OSError, ValueError):
        return None
