"""The policy for Istio: AuthorizationPolicy, PeerAuthentication STRICT, and a VirtualService for each split.

Istio's semantics, from its reference of `security.istio.io/v1`: without any ALLOW policy for a workload everything is
allowed; policies and their rules are OR-ed; within one rule `from`, `to` and `when` are AND-ed. So every namespace gets
a policy that allows nothing, every workload one of its own, and each match becomes ONE rule that has all of it.

Splits are VirtualServices: they need no other CRDs than Istio's own, exist in every release that is supported, and take
regular expressions and TCP. Routes of the Gateway API do the same for meshes that have them installed.
"""

from __future__ import annotations

from typing import Any

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import TRUST_DOMAIN, Account, Documents, Protocol, Service, Split
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

_SECURITY = "security.istio.io/v1"
_NETWORKING = "networking.istio.io/v1"
_ALWAYS = (
    """it has no regular expressions in an AuthorizationPolicy: paths and headers are compared as texts, prefixes or
    suffixes. What is neither is decided over the methods of a gRPC service that is known, or the export fails.""",
    """a refused connection looks like a broken one to its caller; a refused request is 403 or PERMISSION_DENIED,
    without the name of the rule.""",
    """set meshConfig.pathNormalization.normalization to MERGE_SLASHES: paths are compared after it. A path with an
    escaped slash (%2F), which the policy always denies, cannot be denied where a rule allows any path, a prefix or a
    suffix.""",
    "identities are service accounts in the trust domain cluster.local.",
)


def export(documents: Documents, methods: Methods | None = None) -> Export:
    """The documents for Istio.

    Args:
        documents: the policy; who wants sealed services has sealed them.
        methods: of the gRPC services in the registry; if None, those that this project knows.

    Raises:
        MeshError: permissive mode is on, or a rule cannot be expressed.
    """
    refuse_permissive(documents, "Istio")
    known = known_methods(documents) if methods is None else methods
    notes = [*_ALWAYS, *common_notes(documents)]
    if documents.config.egress:
        notes.append(
            "whether callers reach what is no service is meshConfig.outboundTrafficPolicy; it is not exported."
        )
    result = account_documents(documents)
    result += [service_document(service) for service in ordered_services(documents)]
    for namespace in namespaces(documents):
        result.append(_document(_SECURITY, "PeerAuthentication", "default", namespace, {"mtls": {"mode": "STRICT"}}))
        result.append(_document(_SECURITY, "AuthorizationPolicy", "deny-by-default", namespace, {}))
    for service in workloads(documents):
        result.append(_authorization(service, list(grants(documents, service)), known, notes))
    for root in sorted(documents.splits):
        if not documents.services[root].sealed:
            result.append(_virtual_service(documents, documents.splits[root]))
    return Export("Istio", tuple(result), tuple(notes))


def _document(version: str, kind: str, name: str, namespace: str, spec: Document) -> Document:
    return {"apiVersion": version, "kind": kind, "metadata": metadata(name, namespace), "spec": spec}


def _authorization(service: Service, granted: list[Grant], methods: Methods, notes: list[str]) -> Document:
    """Always there, and with `action: ALLOW`: a workload without any such policy would be open."""
    rules = [rule for grant in granted if (rule := _rule(service, grant, methods, notes)) is not None]
    document = _document(_SECURITY, "AuthorizationPolicy", f"{service.name}-access", service.namespace, {})
    document["metadata"] = metadata(f"{service.name}-access", service.namespace, traced(g.target for g in granted))
    document["spec"] = {"selector": {"matchLabels": labels(service)}, "action": "ALLOW"}
    if rules:
        document["spec"]["rules"] = rules
    return document


def _rule(service: Service, grant: Grant, methods: Methods, notes: list[str]) -> Document | None:
    sources = {"principals": [_principal(source) for source in grant.sources]}
    rule: Document = {"from": [{"source": sources}]}
    operation: Document = {"ports": [str(service.port)]}
    rule["to"] = [{"operation": operation}]
    if grant.match is None:
        return rule
    at = grant.target.origin
    match, where = grant.match, f"TrafficTarget {grant.target.name}, match {grant.match.name}, {at.file}:{at.line}"
    if match.methods:
        operation["methods"] = [_text(Literal(method), "method", where) for method in sorted(match.methods)]
    if match.path is not None:
        paths = _paths(match.path, service, methods, where, notes)
        if not paths:
            return None
        if ANY not in paths:
            operation["paths"] = [_text(path, "path", where) for path in paths]
    if match.headers:
        rule["when"] = [_condition(name, pattern, where) for name, pattern in match.headers]
    return rule


def _principal(account: Account) -> str:
    return f"{TRUST_DOMAIN}/ns/{account.namespace}/sa/{account.name}"


def _paths(pattern: Pattern, service: Service, methods: Methods, where: str, notes: list[str]) -> tuple[Literal, ...]:
    plain = literal(pattern)
    if plain is not None and normal(plain):
        return (plain,)
    found = matching_methods(pattern, service, methods)
    if found is None:
        hint = "write it as a text, a prefix (`/books/.*`) or a suffix; or name the grpcServices of the service"
        raise inexpressible("Istio", where, "pathRegex", pattern.text, hint)
    notes.append(f"{where}: `{pattern.text}` is decided over the methods known today; it matches {len(found)} of them.")
    return found


def _condition(name: str, pattern: Pattern, where: str) -> Document:
    plain = literal(pattern)
    if plain is None or plain.text == "" or name == "host" or name.startswith(":"):
        hint = "a header's value has to be a text, a prefix or a suffix, and neither host nor a pseudo-header"
        raise inexpressible("Istio", where, f"header {name}", pattern.text, hint)
    return {"key": f"request.headers[{name}]", "values": [_text(plain, f"header {name}", where)]}


def _text(plain: Literal, what: str, where: str) -> str:
    """As Istio writes it: `text`, `text*`, `*text`."""
    if any(character in plain.text for character in "*{}"):
        raise inexpressible("Istio", where, what, plain.text, "*, { and } have a meaning of their own there")
    return f"{'*' if plain.kind is Kind.SUFFIX else ''}{plain.text}{'*' if plain.kind is Kind.PREFIX else ''}"


def _virtual_service(documents: Documents, split: Split) -> Document:
    root = documents.services[split.root]
    weighted = [
        {"destination": _destination(documents.services[backend.service]), "weight": backend.weight}
        for backend in split.backends
    ]
    spec: Document = {"hosts": [root.host]}
    if root.seen_as is Protocol.TCP:
        spec["tcp"] = [{"route": weighted}]
    elif split.matches:
        split_ones = {"match": [_http_match(match) for match in split.matches], "route": weighted}
        spec["http"] = [split_ones, {"route": [{"destination": _destination(root)}]}]
    else:
        spec["http"] = [{"route": weighted}]
    return _document(_NETWORKING, "VirtualService", root.name, root.namespace, spec)


def _destination(service: Service) -> Document:
    return {"host": service.host, "port": {"number": service.port}}


def _http_match(match: Match) -> Document:
    """Here Istio has regular expressions, the same as ours: RE2 on the whole text."""
    result: dict[str, Any] = {}
    if match.path is not None:
        result["uri"] = {"regex": match.path.text}
    if match.methods:
        result["method"] = {"regex": "|".join(sorted(match.methods))}
    if match.headers:
        result["headers"] = {name: {"regex": pattern.text} for name, pattern in match.headers}
    return result or {"uri": {"prefix": "/"}}
