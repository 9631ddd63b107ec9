"""Counters, refusals and readiness of one process, as plain numbers that a page can show.

Everything is bounded: a peer can make a number grow, but never the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_MOST_REFUSALS = 256  # distinct rows; what comes after is counted in one row


@dataclass(slots=True)
class Counter:
    """A number on the page. Written by one thread, read by any.

    `kind` is Prometheus' word: a "counter" grows until it is reset, a "gauge" goes up and down.
    """

    name: str
    help: str = ""
    kind: str = "counter"
    value: int = 0

    def add(self, amount: int = 1) -> None:
        """Counts `amount` more."""
        self.value += amount


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was not let in: who, what, and which rule decided."""

    peer: str
    method: str
    rule: str


@dataclass(frozen=True, slots=True)
class Table:
    """More to show: `rows` is called for every view, and gives as many texts a row as `columns` has names."""

    title: str
    columns: tuple[str, ...]
    rows: Callable[[], list[tuple[str, ...]]]


@dataclass(slots=True)
class Status:
    """What a service reports about itself.

    `identity` is called for every view, because a certificate changes when it is renewed; it gives the keys
    `marbleType`, `uuid`, `platform`, `simulated`, `uniqueID`, `signerID` and `certificateExpires`. `tables` are of the
    page for people only.
    """

    service: str
    identity: Callable[[], Mapping[str, Any]] = dict
    ready: bool = False
    reason: str = "starting"
    tables: list[Table] = field(default_factory=list)
    _counters: dict[str, Counter] = field(default_factory=dict)
    _refusals: dict[Refusal, int] = field(default_factory=dict)

    def counter(self, name: str, help: str = "") -> Counter:  # noqa: A002  # Prometheus calls it help, too
        """The counter of this name, made at the first call; `name` in lower case with underscores."""
        return self._counters.setdefault(name, Counter(name, help))

    def gauge(self, name: str, help: str = "") -> Counter:  # noqa: A002  # as above
        """The same for a number that goes up and down."""
        return self._counters.setdefault(name, Counter(name, help, kind="gauge"))

    def refuse(self, peer: str, method: str, rule: str) -> None:
        """Counts one refused call."""
        key = Refusal(peer, method, rule)
        if key not in self._refusals and len(self._refusals) >= _MOST_REFUSALS:
            key = Refusal("(others)", "(others)", "(others)")
        self._refusals[key] = self._refusals.get(key, 0) + 1

    def set_ready(self) -> None:
        """From now on `/readyz` answers 200."""
        self.ready, self.reason = True, "ready"

    def set_not_ready(self, reason: str) -> None:
        """From now on `/readyz` answers 503 with this reason."""
        self.ready, self.reason = False, reason

    def counters(self) -> list[Counter]:
        """All counters, by name."""
        return sorted(self._counters.copy().values(), key=lambda counter: counter.name)

    def refusals(self) -> list[tuple[Refusal, int]]:
        """All refusals with their counts, the most frequent first."""
        return sorted(self._refusals.copy().items(), key=lambda item: (-item[1], item[0].peer, item[0].method))

    def as_json(self) -> dict[str, Any]:
        """The shape of `/status.json`."""
        return {
            **self.identity(),
            "ready": self.ready,
            "reason": self.reason,
            "counters": {counter.name: counter.value for counter in self.counters()},
            "refusals": [
                {"peer": refusal.peer, "method": refusal.method, "rule": refusal.rule, "count": count}
                for refusal, count in self.refusals()
            ],
        }
