"""The policy for Linkerd: a Server for each service, and routes, authentications and authorizations on it.

Linkerd's semantics, from its reference of authorization policies and its proxy: a Server denies what no
AuthorizationPolicy allows; of the routes of a Server exactly one, the most specific, decides about a request. SMI adds
up what all targets say, so the matches are made into routes of which the most specific one knows everybody who may:
for each two that overlap there is one for what both match.

Linkerd compares paths as they are sent. A prefix or a regular expression would match `/books/../secret`, so routes have
exact paths or none. They are HTTPRoutes for gRPC, too: a GRPCRoute looks at the first two segments of a path only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import Account, Documents, Protocol, Service, Split
from mesh.export.document import (
    Document,
    Export,
    Grant,
    account_documents,
    common_notes,
    grants,
    labels,
    metadata,
    namespaces,
    ordered_services,
    refuse_permissive,
    service_document,
    traced,
    workloads,
)
from mesh.export.literal import (
    ANY,
    Kind,
    Literal,
    Methods,
    inexpressible,
    known_methods,
    literal,
    matching_methods,
    normal,
)

_POLICY = "policy.linkerd.io"
_GATEWAY = "gateway.networking.k8s.io"
_MOST_ROUTES = 256  # of one service
_PROXY_PROTOCOL = {Protocol.GRPC: "HTTP/2", Protocol.HTTP: "HTTP/1", Protocol.TCP: "opaque"}
_ALWAYS = (
    """it compares paths as they are sent, so a rule's path has to be one exact path, a set of known gRPC methods, or
    any. Prefixes, suffixes and other patterns make the export fail. A path that the policy would normalise first is
    denied; an escaped slash (%2F), which the policy always denies, is allowed where a rule allows any path.""",
    "a header that is sent several times fits if any of its values does.",
    "a Server needs its port in the pod's `ports`; other ports of the pods are denied by the namespace's annotation.",
    "denials do not name a rule; `linkerd viz authz` shows them by Server and route.",
)


def export(documents: Documents, methods: Methods | None = None) -> Export:
    """The documents for Linkerd 2.16 or later, with the CRDs of the Gateway API 1.0 or later.

    Args:
        documents: the policy; who wants sealed services has sealed them.
        methods: of the gRPC services in the registry; if None, those that this project knows.

    Raises:
        MeshError: permissive mode is on, or a rule or split cannot be expressed.
    """
    refuse_permissive(documents, "Linkerd")
    known = known_methods(documents) if methods is None else methods
    notes = [*_ALWAYS, *common_notes(documents)]
    result = [_namespace(name) for name in namespaces(documents)]
    result += account_documents(documents)
    for service in ordered_services(documents):
        opaque = {"config.linkerd.io/opaque-ports": str(service.port)} if service.seen_as is Protocol.TCP else {}
        result.append(service_document(service, opaque))
    for service in workloads(documents):
        granted = list(grants(documents, service))
        result.append(_server(service, granted))
        if service.seen_as is Protocol.TCP:
            result += _connections(service, granted)
        else:
            result += _requests(service, granted, known, notes)
    for root in sorted(documents.splits):
        if not documents.services[root].sealed:
            result.append(_split(documents, documents.splits[root]))
    return Export("Linkerd", tuple(result), tuple(notes))


def _namespace(name: str) -> Document:
    """What no Server selects is denied there."""
    annotations = {"linkerd.io/inject": "enabled", "config.linkerd.io/default-inbound-policy": "deny"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}}


def _server(service: Service, granted: list[Grant]) -> Document:
    return {
        "apiVersion": f"{_POLICY}/v1beta3",
        "kind": "Server",
        "metadata": metadata(service.name, service.namespace, traced(grant.target for grant in granted)),
        "spec": {
            "podSelector": {"matchLabels": labels(service)},
            "port": service.port,
            "proxyProtocol": _PROXY_PROTOCOL[service.seen_as],
            "accessPolicy": "deny",
        },
    }


def _connections(service: Service, granted: list[Grant]) -> Iterator[Document]:
    sources = {source for grant in granted for source in grant.sources}
    if sources:
        reference = {"group": _POLICY, "kind": "Server", "name": service.name}
        yield from _authorization(service.name, service.namespace, reference, sources)


def _authorization(name: str, namespace: str, target: Document, sources: Iterable[Account]) -> Iterator[Document]:
    references = [
        {"kind": "ServiceAccount", "name": source.name, "namespace": source.namespace} for source in sorted(sources)
    ]
    yield {
        "apiVersion": f"{_POLICY}/v1alpha1",
        "kind": "MeshTLSAuthentication",
        "metadata": metadata(name, namespace),
        "spec": {"identityRefs": references},
    }
    yield {
        "apiVersion": f"{_POLICY}/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata(name, namespace),
        "spec": {
            "targetRef": target,
            "requiredAuthenticationRefs": [{"group": _POLICY, "kind": "MeshTLSAuthentication", "name": name}],
        },
    }


@dataclass(frozen=True, slots=True)
class _Condition:
    """What a request has to be like: an exact path, a method, headers; empty means any."""

    path: str = ""
    method: str = ""
    headers: frozenset[tuple[str, str]] = frozenset()

    def contains(self, other: _Condition) -> bool:
        """Whether this fits every request that the other fits."""
        return self.path in ("", other.path) and self.method in ("", other.method) and self.headers <= other.headers

    def both(self, other: _Condition) -> _Condition | None:
        """What fits exactly the requests that both fit; None if there are none."""
        if (self.path and other.path and self.path != other.path) or (
            self.method and other.method and self.method != other.method
        ):
            return None
        return _Condition(self.path or other.path, self.method or other.method, self.headers | other.headers)


def _requests(service: Service, granted: list[Grant], methods: Methods, notes: list[str]) -> Iterator[Document]:
    """A route for each set of sources, with the matches at which exactly these may call."""
    allowed: dict[_Condition, frozenset[Account]] = {}
    for grant in granted:
        for condition in _conditions(service, grant, methods, notes):
            allowed[condition] = allowed.get(condition, frozenset()) | frozenset(grant.sources)
    routes: dict[frozenset[Account], list[_Condition]] = {}
    for condition in _closed(service, allowed):
        everybody = frozenset().union(*(who for wider, who in allowed.items() if wider.contains(condition)))
        routes.setdefault(everybody, []).append(condition)
    numbered = sorted(routes.items(), key=lambda item: sorted(item[0]))
    for number, (sources, conditions) in enumerate(numbered, 1):
        name = f"{service.name}-{number}"
        yield _route(name, service.namespace, {"group": _POLICY, "kind": "Server", "name": service.name}, conditions)
        yield from _authorization(
            name, service.namespace, {"group": _GATEWAY, "kind": "HTTPRoute", "name": name}, sources
        )


def _conditions(service: Service, grant: Grant, methods: Methods, notes: list[str]) -> Iterator[_Condition]:
    match = grant.match
    if match is None:
        return
    at = grant.target.origin
    where = f"TrafficTarget {grant.target.name}, match {match.name}, {at.file}:{at.line}"
    headers = frozenset((name, _header(name, pattern, where)) for name, pattern in match.headers)
    paths = (ANY,) if match.path is None else _paths(match.path, service, methods, where, notes)
    verbs = sorted(match.methods) or [""]
    yield from (_Condition(path.text, verb, headers) for path in paths for verb in verbs)


def _closed(service: Service, allowed: Iterable[_Condition]) -> list[_Condition]:
    """The conditions, and what each two of them have in common, and so on."""
    found = dict.fromkeys(allowed)
    waiting = list(found)
    while waiting:
        one = waiting.pop()
        for other in list(found):
            if (common := one.both(other)) is not None and common not in found:
                found[common] = None
                waiting.append(common)
                if len(found) > _MOST_ROUTES:
                    hint = "let fewer matches of different targets overlap"
                    raise MeshError(f"too many overlapping matches for Linkerd: {service.key}", hint=hint)
    return sorted(found, key=lambda c: (c.path, c.method, sorted(c.headers)))


def _paths(pattern: Pattern, service: Service, methods: Methods, where: str, notes: list[str]) -> tuple[Literal, ...]:
    plain = literal(pattern)
    exact = plain is not None and plain.kind is Kind.EXACT and normal(plain) and plain.text != "/"
    if plain is not None and (plain == ANY or exact):
        return (plain,)
    found = matching_methods(pattern, service, methods)
    if found is None:
        hint = "write one exact path for each match, or name the grpcServices of the service"
        raise inexpressible("Linkerd", where, "pathRegex", pattern.text, hint)
    notes.append(f"{where}: `{pattern.text}` is decided over the methods known today; it matches {len(found)} of them.")
    return found


def _header(name: str, pattern: Pattern, where: str) -> str:
    plain = literal(pattern)
    if plain is None or plain.kind is not Kind.EXACT or not plain.text or name == "host" or name.startswith(":"):
        hint = "a header's value has to be a plain text, and neither host nor a pseudo-header"
        raise inexpressible("Linkerd", where, f"header {name}", pattern.text, hint)
    return plain.text


def _route(name: str, namespace: str, parent: Document, conditions: list[_Condition]) -> Document:
    return {
        "apiVersion": f"{_GATEWAY}/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(name, namespace),
        "spec": {"parentRefs": [parent], "rules": [{"matches": [_match(each)]} for each in conditions]},
    }


def _match(condition: _Condition) -> Document:
    path = ("Exact", condition.path) if condition.path else ("PathPrefix", "/")
    match: dict[str, Any] = {"path": {"type": path[0], "value": path[1]}}
    if condition.method:
        match["method"] = condition.method
    if condition.headers:
        match["headers"] = [{"type": "Exact", "name": n, "value": value} for n, value in sorted(condition.headers)]
    return match


def _split(documents: Documents, split: Split) -> Document:
    root = documents.services[split.root]
    where = f"TrafficSplit {split.name}, {split.origin}"
    if root.seen_as is Protocol.TCP:
        raise inexpressible("Linkerd", where, "split", "connections", "it splits requests only")
    parent = {"group": "core", "kind": "Service", "name": root.name, "namespace": root.namespace, "port": root.port}
    weighted = [_backend(documents.services[b.service]) | {"weight": b.weight} for b in split.backends]
    rules: list[Document] = [{"backendRefs": weighted}]
    if split.matches:
        conditions = [condition for match in split.matches for condition in _split_conditions(match, where)]
        rules = [{"matches": [_match(each) for each in conditions]} | rules[0], {"backendRefs": [_backend(root)]}]
    document = _route(f"{root.name}-split", root.namespace, parent, [])
    document["spec"]["rules"] = rules
    return document


def _split_conditions(match: Match, where: str) -> Iterator[_Condition]:
    plain = ANY if match.path is None else literal(match.path)
    if plain is None or plain.kind not in (Kind.ANY, Kind.EXACT):
        raise inexpressible(
            "Linkerd", where, "pathRegex", match.path.text if match.path else "", "write one exact path"
        )
    headers = frozenset((name, _header(name, pattern, where)) for name, pattern in match.headers)
    for verb in sorted(match.methods) or [""]:
        yield _Condition(plain.text, verb, headers)


def _backend(service: Service) -> Document:
    return {"name": service.name, "namespace": service.namespace, "port": service.port}
