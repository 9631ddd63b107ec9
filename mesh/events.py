"""Lines of the sidecars' access logs become refusals: who, what, by which rule, how often.

Their number is bounded, whatever callers do: one that asks for ever new paths gets one row for all that are too many,
and takes nobody else's row away.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import TRUST_DOMAIN, Account, Service

_MOST = 1024  # kinds of refusals; the one that was seen longest ago makes place
_MOST_OF_A_PAIR = 32  # of them of one caller at one service
_OTHERS = "(others)"
_BY_RBAC = "rbac_access_denied"
_STRANGER = "(no certificate of the mesh)"
_LONGEST_PATH = 200
_Kind = tuple[str, str, str, str]


@dataclass(slots=True)
class Refusal:
    """Refusals of one kind.

    Attributes:
        source: the name in the caller's certificate.
        destination: service, `namespace/name`.
        what: `POST /path`, or `connection`; `(others)` stands for all that are too many.
        layer: `L7` or `L4`.
        rule: what decided, for example "deny-by-default".
        near: the nearest rule, with file and line; "" if there is none.
        count, last: how often, and when last (as Envoy writes it).
    """

    source: str
    destination: str
    what: str
    layer: str
    rule: str
    near: str = ""
    count: int = 0
    last: str = ""


class Refusals:
    """What sidecars have refused.

    Args:
        first: called with a refusal of a new kind.
    """

    def __init__(self, first: Callable[[Refusal], None] = lambda _: None) -> None:
        self._first = first
        self._kinds: OrderedDict[_Kind, Refusal] = OrderedDict()
        self._of_pair: Counter[tuple[str, str]] = Counter()

    def latest(self) -> list[Refusal]:
        """Those seen last come last."""
        return list(self._kinds.values())

    def take(self, line: bytes, policy: Policy | None) -> None:
        """One line; what is no refusal is left out. `policy` says by which rule it was."""
        found = read_line(line, policy)
        if found is None:
            return
        kind, pair = _kind(found), (found.source, found.destination)
        if kind not in self._kinds and self._of_pair[pair] >= _MOST_OF_A_PAIR:
            found.what = _OTHERS
            kind = _kind(found)
        known = self._kinds.get(kind)
        if known is None:
            self._kinds[kind] = known = found
            self._of_pair[pair] += 1
            if len(self._kinds) > _MOST:
                _, gone = self._kinds.popitem(last=False)
                self._of_pair[gone.source, gone.destination] -= 1
                self._of_pair = +self._of_pair  # without those that have none left
        known.count += 1
        known.last, known.near = found.last, found.near
        self._kinds.move_to_end(kind)
        if known.count == 1:
            self._first(known)


def _kind(refusal: Refusal) -> _Kind:
    return refusal.source, refusal.destination, refusal.what, refusal.rule


def read_line(line: bytes, policy: Policy | None) -> Refusal | None:
    """The refusal that a line of an access log (`mesh/compiler/access_log.py`) tells of; None if it tells of none."""
    try:
        entry: dict[str, Any] = json.loads(line)
        connection, key, at = entry["kind"] == "l4", str(entry["destination"]), str(entry["time"])
        peer = str(entry["peer"] or _STRANGER)
        details = str(entry["details"])
    except (ValueError, KeyError, TypeError):
        return None
    if _BY_RBAC not in details:
        return None
    method = None if connection else str(entry.get("method") or "")
    path = str(entry.get("path") or "")
    what = "connection" if connection else f"{method} {path[:_LONGEST_PATH]}"
    rule, near = "deny-by-default", ""
    source, service = _account(peer), policy.documents.services.get(key) if policy else None
    if policy is not None and source is not None and service is not None:
        rule, near = _rule(policy, source, service, method, path)
    return Refusal(peer, key, what, "L4" if connection else "L7", rule, near, last=at)


def _rule(policy: Policy, source: Account, service: Service, method: str | None, path: str) -> tuple[str, str]:
    explained = policy.explain(source, service.account, service.port, method, path)
    if explained.decision.allowed:  # it was refused by the policy before
        return "deny-by-default", ""
    return explained.decision.rule, explained.near[0] if explained.near else ""


def _account(principal: str) -> Account | None:
    name, _, rest = principal.removesuffix(f".{TRUST_DOMAIN}").partition(".")
    return Account(name, rest) if name and rest else None
