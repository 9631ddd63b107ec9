"""HTTPRouteGroup: named matches of HTTP requests. For gRPC, a path is `/package.Service/Method`, a method always POST.

`headers` is a list of maps with one entry each, as in SMI's CRD (its text shows one map).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from yaml.nodes import MappingNode

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.documents import Document
from confidential_bookstore.policy.smi.fields import Field
from confidential_bookstore.policy.smi.model import Origin

API_VERSIONS = ("specs.smi-spec.io/v1alpha4",)
METHODS = frozenset({"*", "GET", "HEAD", "PUT", "POST", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_CRD = "SMI's CRD has one map for each header, whatever its text shows"
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")  # RFC 9110


@dataclass(frozen=True, slots=True)
class RouteGroup:
    """Matches by name, in the order in which they stand."""

    matches: dict[str, Match]
    origin: Origin


def read_route_group(document: Document) -> RouteGroup:
    """The group.

    Raises:
        PolicyError: it has another form, or a pattern that RE2 does not take.
    """
    matches: dict[str, Match] = {}
    for entry in document.spec.map(("matches",))["matches"].list():
        fields = entry.map(("name",), ("pathRegex", "methods", "headers"))
        name = fields["name"].title()
        if name in matches:
            raise fields["name"].error("another match has this name", got=name)
        matches[name] = Match(
            name=name,
            path=fields["pathRegex"].pattern() if "pathRegex" in fields else None,
            methods=_methods(fields["methods"]) if "methods" in fields else frozenset(),
            headers=_headers(fields["headers"]) if "headers" in fields else (),
        )
    return RouteGroup(matches, document.whole.origin)


def _methods(field: Field) -> frozenset[str]:
    methods = frozenset(entry.one_of(METHODS) for entry in field.list())
    return frozenset() if "*" in methods else methods


def _headers(field: Field) -> tuple[tuple[str, Pattern], ...]:
    headers: dict[str, Pattern] = {}
    if isinstance(field.node, MappingNode):
        raise field.error("has another form", got="a map", expected="a list: - name: pattern", hint=_CRD)
    for entry in field.list():
        pairs = list(entry.pairs())
        if len(pairs) != 1:
            raise entry.error(
                "has another form", got=f"{len(pairs)} entries", expected="one: - name: pattern", hint=_CRD
            )
        [(name, value)] = pairs
        if not _HEADER.fullmatch(name):
            raise value.error("is no name of a header", got=repr(name[:80]))
        lower = ":authority" if name.lower() == "host" else name.lower()
        if lower in headers:
            raise value.error("another entry is for this header", got=name)
        headers[lower] = value.pattern()
    return tuple(sorted(headers.items()))
