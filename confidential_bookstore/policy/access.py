"""The access rules inside a marble: may SOURCE, an attested marble type, call METHOD?

The rules come from the manifest, so the manifest's fingerprint covers them. They only ever allow; what no rule allows
is denied by the rule "deny-by-default". Health and reflection are open to every attested marble, because whoever
holds a certificate of this deployment has passed attestation and both say nothing about anybody's data.

The JSON form, in the environment variable MARBLE_ACCESS_RULES:

    [{"name": "bookbuyer-buys", "source": "bookbuyer", "methods": ["/pkg.BookstoreService/BuyBook", "/pkg.Other/*"]}]

A method is the full path of a gRPC method, or a whole service as `/<service>/*`. There is no wildcard for the source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.errors import ConfigurationError

DENY_BY_DEFAULT = "deny-by-default"
OPEN_TO_EVERY_MARBLE = "open-to-every-marble"

_OPEN_SERVICES = frozenset(
    {"/grpc.health.v1.Health", "/grpc.reflection.v1.ServerReflection", "/grpc.reflection.v1alpha.ServerReflection"}
)
_METHOD = re.compile(r"/[A-Za-z_][A-Za-z0-9_.]*/([A-Za-z_][A-Za-z0-9_]*|\*)")
_EXAMPLE = "/package.Service/Method or /package.Service/*"


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, and the name of the rule that gave it."""

    allowed: bool
    rule: str


@dataclass(frozen=True, slots=True)
class AccessRule:
    """`source` may call each of `methods`."""

    name: str
    source: str
    methods: tuple[str, ...]


_DENIED = Decision(allowed=False, rule=DENY_BY_DEFAULT)
_OPEN = Decision(allowed=True, rule=OPEN_TO_EVERY_MARBLE)


class AccessRules:
    """A fixed set of rules. Where several allow the same call, the first one is named."""

    __slots__ = ("_allowed", "rules")

    def __init__(self, rules: Iterable[AccessRule] = ()) -> None:
        self.rules = tuple(rules)
        self._allowed: dict[tuple[str, str], Decision] = {}
        for rule in self.rules:
            for method in rule.methods:
                self._allowed.setdefault((rule.source, method), Decision(allowed=True, rule=rule.name))

    @classmethod
    def from_json(cls, text: str) -> AccessRules:
        """Reads the rules; an empty text means no rules, so that everything is denied.

        Raises:
            ConfigurationError: not JSON, another shape, an unknown key, or a method that is not a path.
        """
        if not text.strip():
            return cls()
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"access rules are not JSON: {error}") from None
        if not isinstance(document, list):
            raise ConfigurationError("access rules are not a list", got=type(document).__name__, expected="list")
        rules = [_rule(index, entry) for index, entry in enumerate(document)]
        names = [rule.name for rule in rules]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigurationError("several access rules have the same name", got=", ".join(repeated))
        return cls(rules)

    def allow(self, source: str, method: str) -> Decision:
        """May a marble of type `source` call `method` (`/package.Service/Method`)?"""
        service = method.rpartition("/")[0]
        if service in _OPEN_SERVICES:
            return _OPEN
        candidates = [d for m in (method, f"{service}/*") if (d := self._allowed.get((source, m)))]
        if len(candidates) == 2 and candidates[0] is not candidates[1]:
            order = [rule.name for rule in self.rules]
            candidates.sort(key=lambda decision: order.index(decision.rule))
        return candidates[0] if candidates else _DENIED


def _rule(index: int, entry: Any) -> AccessRule:
    where = f"access rule {index}"
    if not isinstance(entry, dict) or set(entry) != {"name", "source", "methods"}:
        got = ", ".join(sorted(map(str, entry))) if isinstance(entry, dict) else type(entry).__name__
        raise ConfigurationError(f"{where} has other keys", got=got, expected="name, source, methods")
    name, source, methods = entry["name"], entry["source"], entry["methods"]
    if not (isinstance(name, str) and name and isinstance(source, str) and source):
        raise ConfigurationError(f"{where} needs a name and a source", got=repr((name, source)), expected="text")
    if name in (DENY_BY_DEFAULT, OPEN_TO_EVERY_MARBLE):
        raise ConfigurationError(f"{where} has a reserved name", got=name)
    if not isinstance(methods, list) or not methods:
        raise ConfigurationError(f"{where} ({name}) needs a list of methods", got=repr(methods), expected=_EXAMPLE)
    for method in methods:
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise ConfigurationError(f"{where} ({name}) names no method", got=repr(method), expected=_EXAMPLE)
    return AccessRule(name, source, tuple(methods))
