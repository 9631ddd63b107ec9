"""From single documents to one checked whole: every name that a document uses is looked up.

What makes no sense together is an error of the document that says it.

What is checked, besides names: a TCPRoute's ports are ports of the destination's services; an HTTPRouteGroup is for
services that speak HTTP; a split does not refer to itself or to another split, its services have one port and its root
one split; services of one marble type have one account. `sealed` checks what holds where sidecars see only bytes.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.fields import Field
from confidential_bookstore.policy.smi.model import (
    TRUST_DOMAIN,
    Account,
    Backend,
    Documents,
    HttpRule,
    MeshConfig,
    Protocol,
    Service,
    Split,
    Target,
    TcpRule,
)
from confidential_bookstore.policy.smi.route_group import RouteGroup
from confidential_bookstore.policy.smi.tcp_route import TcpRoute
from confidential_bookstore.policy.smi.traffic_split import WrittenSplit
from confidential_bookstore.policy.smi.traffic_target import WrittenRule, WrittenTarget

MOST_ERRORS = 100
_LOOKED_AT = 500  # names that are compared with a wrong one


@dataclass(slots=True)
class Written:
    """All documents of a folder, by `namespace/name`, before names are looked up."""

    services: dict[str, Service] = field(default_factory=dict)
    groups: dict[str, RouteGroup] = field(default_factory=dict)
    tcp_routes: dict[str, TcpRoute] = field(default_factory=dict)
    targets: dict[str, WrittenTarget] = field(default_factory=dict)
    splits: dict[str, WrittenSplit] = field(default_factory=dict)
    configs: dict[str, MeshConfig] = field(default_factory=dict)

    def runs_as(self) -> dict[Account, list[Service]]:
        """The services of each account."""
        return by_account(self.services.values())


class Errors:
    """Gathers errors, so that one does not hide the next; not without end."""

    def __init__(self) -> None:
        self.found: list[PolicyError] = []

    def full(self) -> bool:
        """No more are looked for."""
        return len(self.found) >= MOST_ERRORS

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """An error inside is noted, and what follows in the block is left out."""
        try:
            yield
        except PolicyError as error:
            self.found.append(error)


def resolve(written: Written, errors: Errors) -> Documents:
    """The whole; documents with errors are left out of it."""
    _check_services(written.services.values(), errors)
    targets: dict[str, Target] = {}
    accounts = written.runs_as()
    for name, target in written.targets.items():
        if errors.full():
            break
        with errors.noted():
            targets[name] = _target(name, target, written, accounts)
    splits: dict[str, Split] = {}
    for name, split in written.splits.items():
        if errors.full():
            break
        with errors.noted():
            resolved = _split(name, split, written)
            if (other := splits.get(resolved.root)) is not None:
                raise split.root.error("this service is split already", got=resolved.root, hint=f"see {other.origin}")
            splits[resolved.root] = resolved
    for each in splits.values():
        with errors.noted():
            _check_not_nested(written.splits[each.name], each, splits)
    config = MeshConfig()
    for index, found in enumerate(written.configs.values()):
        with errors.noted():
            if index:
                raise PolicyError(str(found.origin), "", "there is another MeshConfig", hint=f"see {config.origin}")
            config = found
    return Documents(written.services, targets, splits, config)


def sealed(documents: Documents, names: Iterable[str] | None = None) -> Documents:
    """The same, where the traffic of these services (of all marbles, if None) is attested TLS from end to end.

    Raises:
        PolicyError: a target grants what could not be enforced, or nothing, because sidecars see only bytes.
    """
    chosen = None if names is None else set(names)
    services = {
        key: replace(service, sealed=bool(service.marble) if chosen is None else key in chosen)
        for key, service in documents.services.items()
    }
    changed = replace(documents, services=services)
    accounts = by_account(services.values())
    for target in changed.targets.values():
        _check_sealed(target, accounts.get(target.destination, []))
    return changed


def by_account(services: Iterable[Service]) -> dict[Account, list[Service]]:
    """The services that run as each account."""
    found: dict[Account, list[Service]] = {}
    for service in services:
        found.setdefault(service.account, []).append(service)
    return found


def services_of(account: Account, services: Mapping[str, Service]) -> list[Service]:
    """The services that run as this account."""
    return [service for service in services.values() if service.account == account]


def _check_services(services: Iterable[Service], errors: Errors) -> None:
    accounts: dict[str, Service] = {}
    for service in services:
        first = accounts.setdefault(service.marble, service) if service.marble else service
        if first.account != service.account:
            with errors.noted():
                raise PolicyError(
                    str(service.origin),
                    "spec.marble",
                    "this marble type runs as another account elsewhere",
                    got=service.account,
                    expected=first.account,
                    hint=f"see {first.origin}",
                )


def _target(name: str, written: WrittenTarget, every: Written, accounts: Mapping[Account, list[Service]]) -> Target:
    destination, _ = written.destination
    for account, where in (written.destination, *written.sources):
        if account not in accounts:
            known = sorted(map(str, accounts))
            raise where.error("no service runs as this account", got=account, **_near(str(account), known))
    return Target(
        name=name,
        destination=destination,
        sources=tuple(account for account, _ in written.sources),
        rules=tuple(_rule(rule, destination, every, accounts[destination]) for rule in written.rules),
        origin=written.document.whole.origin,
    )


def _rule(rule: WrittenRule, destination: Account, every: Written, services: list[Service]) -> HttpRule | TcpRule:
    key = f"{destination.namespace}/{rule.name.text()}"
    if rule.kind == "TCPRoute":
        route = every.tcp_routes.get(key)
        if route is None:
            raise rule.name.error("there is no such TCPRoute", got=key, **_near(key, sorted(every.tcp_routes)))
        ports = {service.port for service in services}
        for port in route.ports:
            if port not in ports:
                raise rule.name.error(
                    f"{key} grants a port that no service of {destination} has",
                    got=port,
                    expected=" or ".join(map(str, sorted(ports))),
                    hint=f"see {route.origin}",
                )
        return TcpRule(key, frozenset(route.ports), rule.whole.origin)
    group = every.groups.get(key)
    if group is None:
        raise rule.name.error("there is no such HTTPRouteGroup", got=key, **_near(key, sorted(every.groups)))
    for service in services:
        if service.protocol is Protocol.TCP:
            raise rule.whole.error(
                f"{service.key} does not speak HTTP, so nobody could enforce this", hint="use a TCPRoute"
            )
    chosen = rule.matches if rule.matches is not None else dict.fromkeys(group.matches)
    for match, where in chosen.items():
        if match not in group.matches and where is not None:
            raise where.error(f"{key} has no such match", got=match, **_near(match, sorted(group.matches)))
    return HttpRule(key, tuple(group.matches[match] for match in chosen), rule.whole.origin)


def _split(name: str, written: WrittenSplit, every: Written) -> Split:
    namespace = written.document.namespace
    root = _service(written.root, namespace, every)
    backends: dict[str, int] = {}
    for where, weight in written.backends:
        backend = _service(where, namespace, every)
        if backend.key == root.key:
            raise where.error("the split refers to itself", got=backend.key)
        if backend.key in backends:
            raise where.error("stands there twice", got=backend.key)
        if (backend.port, backend.protocol) != (root.port, root.protocol):
            raise where.error(
                f"root and backend differ in port or protocol: {backend.key}",
                got=f"{backend.port} {backend.protocol.value}",
                expected=f"{root.port} {root.protocol.value}",
            )
        backends[backend.key] = weight
    if written.groups and root.protocol is Protocol.TCP:
        raise written.groups[0].error(f"{root.key} does not speak HTTP, so requests cannot be told apart")
    matches: list[Match] = []
    for where in written.groups:
        key = f"{namespace}/{where.text()}"
        if key not in every.groups:
            raise where.error("there is no such HTTPRouteGroup", got=key, **_near(key, sorted(every.groups)))
        matches += every.groups[key].matches.values()
    return Split(
        name=name,
        root=root.key,
        backends=tuple(Backend(key, weight) for key, weight in backends.items()),
        matches=tuple(matches),
        origin=written.document.whole.origin,
    )


def _service(where: Field, namespace: str, every: Written) -> Service:
    """By `name`, `name.namespace` or a longer form of it."""
    name, _, rest = where.text().partition(".")
    other, _, tail = rest.partition(".")
    if tail and tail not in ("svc", "svc.cluster", f"svc.{TRUST_DOMAIN}"):
        raise where.error("is no name of a service", got=where.text(), expected="name or name.namespace")
    key = f"{other or namespace}/{name}"
    if key not in every.services:
        raise where.error("there is no such service", got=key, **_near(key, sorted(every.services)))
    return every.services[key]


def _check_not_nested(written: WrittenSplit, split: Split, splits: Mapping[str, Split]) -> None:
    for backend, (where, _) in zip(split.backends, written.backends, strict=True):
        if backend.service in splits:
            raise where.error(
                "is split itself, and splits do not nest",
                got=backend.service,
                hint=f"see {splits[backend.service].origin}",
            )


def _check_sealed(target: Target, services: Iterable[Service]) -> None:
    http = [rule for rule in target.rules if isinstance(rule, HttpRule)]
    for service in services:
        if not service.sealed:
            continue
        if len(http) == len(target.rules):
            raise PolicyError(
                str(target.origin),
                "spec.rules",
                f"{service.key} is sealed: its sidecar sees only bytes and would refuse everybody",
                hint=f"add a TCPRoute with port {service.port}",
            )
        if http and not service.marble:
            raise PolicyError(
                str(http[0].origin),
                "spec.rules",
                f"{service.key} is sealed and no marble, so nobody could enforce an HTTPRouteGroup",
            )


def _near(wrong: str, known: list[str]) -> dict[str, str]:
    """Arguments of an error: what was expected, or what was perhaps meant."""
    if found := difflib.get_close_matches(wrong, known[:_LOOKED_AT], n=1):
        return {"hint": f"did you mean {found[0]}?"}
    return {"expected": ", ".join(known[:20]) or "at least one to exist"}
