"""The same documents for the inside of marbles: service accounts become attested marble types.

A service account that no marble runs as cannot be attested, so it grants nothing in here; and neither does permissive
mode, nor a TCPRoute: who may connect is TLS's business, and every attested marble may. A match on the host grants
nothing either, because gRPC does not tell a service which host was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from confidential_bookstore.policy.access import AccessRule, AccessRules
from confidential_bookstore.policy.smi.model import Account, Documents, HttpRule, Service
from confidential_bookstore.policy.splits import TrafficSplits


def access_rules(documents: Documents) -> dict[str, AccessRules]:
    """The rules of each marble type of the registry; one that nobody may call has none."""
    marbles = _marbles(documents)
    rules: dict[str, list[AccessRule]] = {service.marble: [] for service in marbles}
    for target in sorted(documents.targets.values(), key=lambda each: each.name):
        matches = tuple(
            match
            for rule in target.rules
            if isinstance(rule, HttpRule)
            for match in rule.matches
            if not any(name.startswith(":") for name, _ in match.headers)
        )
        sources = _types(marbles, target.sources)
        if matches and sources:
            for marble_type in _types(marbles, (target.destination,)):
                rules[marble_type].append(AccessRule(target.name, sources, matches))
    return {marble_type: AccessRules(each) for marble_type, each in sorted(rules.items())}


def traffic_splits(documents: Documents) -> dict[str, TrafficSplits]:
    """The splits that each marble type needs: of what it may call, itself or a backend. Others have none.

    A split with `matches`, or one that leads to what is no marble, cannot be followed by a marble's channel.
    """
    marbles = {service.key: service for service in _marbles(documents)}
    calls = _calls(documents)
    found: dict[str, dict[str, Mapping[str, int]]] = {}
    for root, split in sorted(documents.splits.items()):
        names = {root, *(backend.service for backend in split.backends)}
        if split.matches or not names <= marbles.keys():
            continue
        weights: Counter[str] = Counter()
        for backend in split.backends:
            weights[marbles[backend.service].marble] += backend.weight
        accounts = {marbles[name].account for name in names}
        for caller in marbles.values():
            if any((caller.account, account) in calls for account in accounts):
                found.setdefault(caller.marble, {})[marbles[root].marble] = weights
    return {marble_type: TrafficSplits(each) for marble_type, each in sorted(found.items())}


def _marbles(documents: Documents) -> list[Service]:
    return [service for service in documents.services.values() if service.marble]


def _types(marbles: list[Service], accounts: tuple[Account, ...]) -> tuple[str, ...]:
    return tuple(sorted({service.marble for service in marbles if service.account in accounts}))


def _calls(documents: Documents) -> set[tuple[Account, Account]]:
    return {(source, target.destination) for target in documents.targets.values() for source in target.sources}
