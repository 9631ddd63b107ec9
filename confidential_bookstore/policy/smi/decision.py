"""The one question: may SOURCE do this with DESTINATION?

`Policy.allow` is the oracle. What a real Envoy does with the compiled configuration, and what a marble does with the
compiled rules, is compared with it.

| question | SMI's text | OSM | here |
|---|---|---|---|
| no TrafficTarget | deny | deny, or allow in permissive mode | deny; permissive mode is explicit, for sidecars only |
| an HTTP rule and a connection | separate | the rule grants all TCP ports, too | it grants requests only |
| a TCP rule and a request | separate | no route: 404 | it grants connections only |
| a rule without `matches` | all of the group | no route: 404 | all of the group |
| `pathRegex` | anchored at the start | the whole path | the whole path, without query, after normalisation |
| overlapping targets | additive | the first route that fits decides | additive |
| `ports: []` | every port | every port | every port |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from confidential_bookstore.policy.access import DENIED, Decision
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.model import Account, Documents, HttpRule, Origin, Target, TcpRule
from confidential_bookstore.policy.smi.path import normalised
from confidential_bookstore.policy.smi.requests import Requests

PERMISSIVE = "permissive-mode"
MALFORMED_PATH = "malformed-path"

_PERMISSIVE = Decision(allowed=True, rule=PERMISSIVE)
_MALFORMED = Decision(allowed=False, rule=MALFORMED_PATH)
_NO_HEADERS: Mapping[str, str] = {}
_CACHED = 4096
_EVERY_PORT = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, and what it comes from.

    Attributes:
        origin: the line of the rule that grants; None if none does.
        near: what might have been meant, each as a sentence with file and line: targets of the destination, and why
            they do not grant this.
    """

    decision: Decision
    origin: Origin | None
    near: tuple[str, ...] = ()


class Policy:
    """Answers for one set of documents.

    Attributes:
        documents: what it answers from.
    """

    def __init__(self, documents: Documents) -> None:
        self.documents = documents
        self._between: dict[tuple[Account, Account], list[Target]] = {}
        for target in sorted(documents.targets.values(), key=lambda each: each.name):
            for source in set(target.sources):
                self._between.setdefault((source, target.destination), []).append(target)
        self._ports: dict[tuple[Account, Account], dict[int, str]] = {}
        for pair, targets in self._between.items():
            self._ports[pair] = _ports(targets)
        self._requests: dict[tuple[Account, Account], Requests] = {}  # made when they are first asked for
        self._fitting = lru_cache(_CACHED)(self._find_fitting)

    def between(self, source: Account, destination: Account) -> tuple[Target, ...]:
        """The targets that name both, by name."""
        return tuple(self._between.get((source, destination), ()))

    def allow(  # noqa: PLR0917  # the question has six parts
        self,
        source: Account,
        destination: Account,
        port: int,
        method: str | None = None,
        path: str = "",
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> Decision:
        """May `source` connect to `port` of `destination`, or, if `method` is given, make this HTTP request?

        Args:
            source: the caller, as its certificate says.
            destination: the account that the called service runs as.
            port: the service's own; it counts for connections only, because an HTTPRouteGroup has no port.
            method: of HTTP, upper case; None asks about a connection. gRPC's is POST.
            path: as sent, with or without query; `/package.Service/Method` for gRPC.
            headers: lower-case names; values of a header that is sent several times, joined by ",".

        Returns:
            The decision, with the first target by name that allows it, or "deny-by-default"; "permissive-mode" if
            everybody in the mesh may call everything; "malformed-path", in permissive mode, too, if no rule can speak
            of such a path.
        """
        canonical = _canonical(method, path)
        if canonical is None:
            return _MALFORMED
        if self.documents.config.permissive:
            return _PERMISSIVE
        if method is None:
            ports = self._ports.get((source, destination), {})
            name = ports.get(port) or ports.get(_EVERY_PORT)
            return Decision(allowed=True, rule=name) if name else DENIED
        for name, match in self._fitting(source, destination, method, canonical):
            if match.headers_fit(headers):
                return Decision(allowed=True, rule=name)
        return DENIED

    def explain(  # noqa: PLR0917  # as `allow`
        self,
        source: Account,
        destination: Account,
        port: int,
        method: str | None = None,
        path: str = "",
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> Explanation:
        """The answer of `allow`, with where it is written, or with what is written nearby."""
        decision = self.allow(source, destination, port, method, path, headers)
        if target := self.documents.targets.get(decision.rule):
            for rule in target.rules:
                if _grants(rule, port, method, _canonical(method, path) or "", headers):
                    return Explanation(decision, rule.origin)
        if decision.rule == PERMISSIVE:
            return Explanation(decision, self.documents.config.origin)
        return Explanation(decision, None, tuple(self._near(source, destination, port, method)))

    def _near(self, source: Account, destination: Account, port: int, method: str | None) -> Iterator[str]:
        for target in sorted(self.documents.targets.values(), key=lambda each: each.name):
            if target.destination != destination:
                continue
            if source not in target.sources:
                yield f"{target.origin} is for {', '.join(map(str, target.sources))}"
                continue
            wanted = TcpRule if method is None else HttpRule
            rules = [rule for rule in target.rules if isinstance(rule, wanted)]
            if not rules:
                other = "requests, not connections" if method is None else "connections, not requests"
                yield f"{target.origin} grants {other}"
            for rule in rules:
                if isinstance(rule, TcpRule):
                    yield f"{rule.origin} grants ports {', '.join(map(str, sorted(rule.ports)))}, not {port}"
                else:
                    yield f"{rule.origin} grants {', '.join(match.name for match in rule.matches)}, none of which fits"

    def _find_fitting(
        self, source: Account, destination: Account, method: str, path: str
    ) -> tuple[tuple[str, Match], ...]:
        """Target names and matches that grant this if their headers fit; nothing after one without headers."""
        pair = (source, destination)
        if pair not in self._between:
            return ()
        if (requests := self._requests.get(pair)) is None:
            requests = self._requests[pair] = Requests(self._between[pair])
        fitting: list[tuple[str, Match]] = []
        for name, match in requests.for_path(path):
            if not match.methods or method in match.methods:
                fitting.append((name, match))
                if not match.headers:
                    break
        return tuple(fitting)


def _canonical(method: str | None, path: str) -> str | None:
    if method is None:
        return ""
    return None if method == "CONNECT" else normalised(path)  # CONNECT has no path, and no sidecar takes it


def _ports(targets: list[Target]) -> dict[int, str]:
    """The first of these targets, by name, that grants connections to a port; `_EVERY_PORT` for all other ports."""
    rules = [(target.name, rule.ports) for target in targets for rule in target.rules if isinstance(rule, TcpRule)]
    ports: dict[int, str] = {}
    every: str | None = None
    for name, granted in rules:
        if not granted and every is None:
            every = ports[_EVERY_PORT] = name
        if every is None or every == name:
            for port in granted:
                ports.setdefault(port, name)
    return ports


def _grants(rule: HttpRule | TcpRule, port: int, method: str | None, path: str, headers: Mapping[str, str]) -> bool:
    if isinstance(rule, TcpRule):
        return method is None and (not rule.ports or port in rule.ports)
    return method is not None and any(match.fits(method, path, headers) for match in rule.matches)
