r"""The access rules inside a marble: may SOURCE, an attested marble type, call METHOD?

The rules come from the manifest, so the manifest's fingerprint covers them. They only ever allow; what no rule allows
is denied by the rule "deny-by-default". Health and reflection are open to every attested marble, because whoever
holds a certificate of this deployment has passed attestation and both say nothing about anybody's data.

The JSON form, in the environment variable MARBLE_ACCESS_RULES:

    [{"name": "bookstore/bookstore", "sources": ["bookbuyer"],
      "matches": [{"path": "/shop\\.v1\\.Bookstore/BuyBook", "methods": ["POST"],
                   "headers": {"client-app": "bookbuyer"}}]}]

Any of the matches has to fit, and in it path, method and every header. `path` and the values of `headers` are regular
expressions of RE2 that have to match the whole gRPC path (`/package.Service/Method`) or value. What a match leaves out
fits anything; gRPC's HTTP method is always POST. There is no wildcard for the source. `cbs manifest build` makes these
rules from SMI documents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.strict_json import read_strictly

DENY_BY_DEFAULT = "deny-by-default"
OPEN_TO_EVERY_MARBLE = "open-to-every-marble"
GRPC_METHOD = "POST"

_OPEN_SERVICES = frozenset(
    {"/grpc.health.v1.Health", "/grpc.reflection.v1.ServerReflection", "/grpc.reflection.v1alpha.ServerReflection"}
)
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, lower case as in HTTP/2
_METHODS = ("*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")  # as in SMI
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, and the name of the rule that gave it."""

    allowed: bool
    rule: str


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Each of `sources` (marble types) may make the calls that fit any of `matches`."""

    name: str
    sources: tuple[str, ...]
    matches: tuple[Match, ...]


DENIED = Decision(allowed=False, rule=DENY_BY_DEFAULT)
_OPEN = Decision(allowed=True, rule=OPEN_TO_EVERY_MARBLE)


class AccessRules:
    """A fixed set of rules. Where several allow the same call, the first one is named."""

    __slots__ = ("_of_source", "rules")

    def __init__(self, rules: Iterable[AccessRule] = ()) -> None:
        self.rules = tuple(rules)
        self._of_source: dict[str, list[AccessRule]] = {}
        for rule in self.rules:
            for source in rule.sources:
                self._of_source.setdefault(source, []).append(rule)

    @classmethod
    def from_json(cls, text: str) -> AccessRules:
        """Reads the rules; an empty text means no rules, so that everything is denied.

        Raises:
            ConfigurationError: not JSON, another shape, an unknown key, or a pattern that RE2 does not take.
        """
        if not text.strip():
            return cls()
        document = read_strictly(text, "access rules")
        if not isinstance(document, list):
            raise ConfigurationError("access rules are not a list", got=type(document).__name__, expected="list")
        rules = [_rule(index, entry) for index, entry in enumerate(document)]
        names = [rule.name for rule in rules]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigurationError("several access rules have the same name", got=", ".join(repeated))
        return cls(rules)

    def to_json(self) -> str:
        """The text that `from_json` reads; the same rules give the same text."""
        written = [
            {"name": rule.name, "sources": list(rule.sources), "matches": [_written(each) for each in rule.matches]}
            for rule in self.rules
        ]
        return json.dumps(written)

    def allow(self, source: str, method: str, headers: Mapping[str, str] = _NO_HEADERS) -> Decision:
        """May a marble of type `source` call `method` (`/package.Service/Method`)? `headers` has lower-case names."""
        if method.rpartition("/")[0] in _OPEN_SERVICES:
            return _OPEN
        for rule in self._of_source.get(source, ()):
            if any(match.fits(GRPC_METHOD, method, headers) for match in rule.matches):
                return Decision(allowed=True, rule=rule.name)
        return DENIED

    def needs_headers(self, source: str, method: str) -> bool:
        """Whether headers can change what `allow` answers to these two."""
        return any(
            match.headers and match.fits_without_headers(GRPC_METHOD, method)
            for rule in self._of_source.get(source, ())
            for match in rule.matches
        )


def _rule(index: int, entry: Any) -> AccessRule:
    where = f"access rule {index}"
    if not isinstance(entry, dict) or set(entry) != {"name", "sources", "matches"}:
        got = ", ".join(sorted(map(str, entry))) if isinstance(entry, dict) else type(entry).__name__
        raise ConfigurationError(f"{where} has other keys", got=got, expected="name, sources, matches")
    name, sources, matches = entry["name"], entry["sources"], entry["matches"]
    if not (isinstance(name, str) and name):
        raise ConfigurationError(f"{where} needs a name", got=repr(name), expected="text")
    if name in (DENY_BY_DEFAULT, OPEN_TO_EVERY_MARBLE):
        raise ConfigurationError(f"{where} has a reserved name", got=name)
    where = f"{where} ({name})"
    if not (isinstance(sources, list) and sources and all(isinstance(each, str) and each for each in sources)):
        raise ConfigurationError(f"{where} needs a list of sources", got=repr(sources), expected="marble types")
    if any("*" in each for each in sources):
        raise ConfigurationError(f"{where} has a wildcard for a source", got=repr(sources), expected="marble types")
    if not isinstance(matches, list) or not matches:
        raise ConfigurationError(f"{where} needs a list of matches", got=repr(matches), expected='[{"path": "..."}]')
    return AccessRule(name, tuple(sources), tuple(_match(where, match) for match in matches))


def _match(where: str, entry: Any) -> Match:
    if not isinstance(entry, dict) or not set(entry) <= {"path", "methods", "headers"}:
        got = ", ".join(sorted(map(str, entry))) if isinstance(entry, dict) else type(entry).__name__
        raise ConfigurationError(f"{where} has a match with other keys", got=got, expected="path, methods, headers")
    methods = entry.get("methods", ["*"])
    if not (isinstance(methods, list) and methods and all(each in _METHODS for each in map(str, methods))):
        raise ConfigurationError(f"{where} has other methods", got=repr(methods), expected='a list such as ["POST"]')
    headers = entry.get("headers", {})
    if not (isinstance(headers, dict) and all(_HEADER_NAME.fullmatch(each) for each in headers)):
        raise ConfigurationError(f"{where} has other headers", got=repr(headers), expected="lower-case names")
    return Match(
        path=_pattern(where, entry["path"]) if "path" in entry else None,
        methods=frozenset() if "*" in methods else frozenset(methods),
        headers=tuple((each, _pattern(where, headers[each])) for each in sorted(headers)),
    )


def _pattern(where: str, text: Any) -> Pattern:
    if not isinstance(text, str):
        raise ConfigurationError(f"{where} has a pattern that is no text", got=repr(text))
    try:
        return Pattern(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} has a pattern that RE2 does not take: {error}", got=repr(text)) from None


def _written(match: Match) -> dict[str, Any]:
    written: dict[str, Any] = {}
    if match.path is not None:
        written["path"] = match.path.text
    if match.methods:
        written["methods"] = sorted(match.methods)
    if match.headers:
        written["headers"] = {name: pattern.text for name, pattern in match.headers}
    return written
