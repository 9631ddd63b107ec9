"""What happened here, kept in memory and within bounds: activations, refusals, and their numbers.

Everybody on the network can cause refusals, so they have a room of their own: they never push activations out. Nothing
that a peer says becomes the label of a metric unless the manifest knows it. No secret is ever recorded.
"""

from __future__ import annotations

import collections
import datetime as dt
import itertools
import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.attestation.claims import Claims

UNKNOWN_TYPE = "unknown"
_MOST_ACTIVATIONS = 512
_MOST_DENIALS = 256
_LONGEST_TEXT = 512

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """The time, with its zone."""
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class _Event:
    number: int
    content: dict[str, Any]


class EventLog:
    """The latest activations and refusals, in MarbleRun's JSON shape.

    Beyond MarbleRun's fields, an activation says what code was attested, and refusals are there at all.
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._numbers = itertools.count()
        self._activations: collections.deque[_Event] = collections.deque(maxlen=_MOST_ACTIVATIONS)
        self._denials: collections.deque[_Event] = collections.deque(maxlen=_MOST_DENIALS)

    def activated(self, marble_type: str, uuid: str, quote: bytes, claims: Claims, expires: dt.datetime) -> None:
        """A marble was activated; `expires` is the end of its certificate."""
        activation = {
            "marbleType": marble_type,
            "uuid": uuid,
            "quote": quote,
            "uniqueID": claims.unique_id,
            "signerID": claims.signer_id,
            "securityVersion": claims.security_version,
            "simulated": claims.simulated,
            "certificateExpires": _rfc3339(expires),
        }
        self._add(self._activations, {"activation": activation})

    def denied(self, marble_type: str, uuid: str, reason: str) -> None:
        """A marble was refused. Type and UUID are what it called itself; all three are cut if they are long."""
        denial = {
            "marbleType": marble_type[:_LONGEST_TEXT],
            "uuid": uuid[:_LONGEST_TEXT],
            "reason": reason[:_LONGEST_TEXT],
        }
        self._add(self._denials, {"denial": denial})

    def entries(self) -> list[dict[str, Any]] | None:
        """Oldest first; None, as MarbleRun has it, if there are none."""
        events = sorted([*self._activations, *self._denials], key=operator.attrgetter("number"))
        return [event.content for event in events] or None

    def _add(self, room: collections.deque[_Event], content: dict[str, Any]) -> None:
        room.append(_Event(next(self._numbers), {"time": _rfc3339(self._clock()), **content}))


class ActivationCounters:
    """Attempted and successful activations by marble type; types that the manifest does not know count as one."""

    def __init__(self) -> None:
        self._attempts: collections.Counter[str] = collections.Counter()
        self._successes: collections.Counter[str] = collections.Counter()

    def attempted(self, marble_type: str, known_types: Collection[str]) -> None:
        """Counts a call of Activate, before any check."""
        self._attempts[marble_type if marble_type in known_types else UNKNOWN_TYPE] += 1

    def succeeded(self, marble_type: str) -> None:
        """Counts an activation; the type is one of the manifest."""
        self._successes[marble_type] += 1

    def exposition(self, state: int) -> str:
        """Prometheus' text format, version 0.0.4."""
        return "".join(
            [
                "# HELP coordinator_state State of the coordinator, by MarbleRun's number.\n",
                "# TYPE coordinator_state gauge\n",
                f"coordinator_state {state}\n",
                *_counter("coordinator_marble_activations_total", "Attempted activations.", self._attempts),
                *_counter("coordinator_marble_activations_success_total", "Activations.", self._successes),
            ]
        )


def _counter(name: str, meaning: str, values: collections.Counter[str]) -> list[str]:
    lines = [f'{name}{{type="{_label(marble_type)}"}} {count}\n' for marble_type, count in sorted(values.items())]
    return [f"# HELP {name} {meaning}\n", f"# TYPE {name} counter\n", *lines]


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _rfc3339(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
