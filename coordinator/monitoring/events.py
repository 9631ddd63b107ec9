"""What happened here, kept in memory and within bounds: activations and refusals.

Everybody on the network can cause refusals, so they have a room of their own: they never push activations out. No
secret is ever recorded. Their numbers are kept in `metrics`.
"""

from __future__ import annotations

import collections
import datetime as dt
import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.attestation.claims import Claims
from coordinator.monitoring.metrics import ActivationCounters

__all__ = ["ActivationCounters", "Clock", "EventLog", "utc_now"]

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

    def activated(self, marble_type: str, uuid: str, quote: bytes, claims: Claims | None, expires: dt.datetime) -> None:
        """A marble was activated; `expires` is the end of its certificate. No claims: the quote was not verified."""
        attested = claims and {
            "uniqueID": claims.unique_id,
            "signerID": claims.signer_id,
            "securityVersion": claims.security_version,
            "simulated": claims.simulated,
        }
        activation = {
            "marbleType": marble_type,
            "uuid": uuid,
            "quote": quote or None,
            **(attested or {}),
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


def _rfc3339(time: dt.datetime) -> str:
    return time.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
