"""The policy for Open Service Mesh itself (v1.2): the SMI documents, without what OSM does not know.

The registry becomes Services and ServiceAccounts. Traps of OSM that the documents walk around: a rule that names no
matches would grant nothing, so all are named; a rule with an HTTPRouteGroup would grant every TCP port of a service
whose traffic is opaque, so there only TCPRoutes are written; permissive mode and egress are OSM's defaults, so both are
said.
"""

from __future__ import annotations

from typing import Any

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.model import (
    Documents,
    HttpRule,
    Protocol,
    Service,
    Split,
    Target,
    TcpRule,
)
from mesh.export.document import (
    Document,
    Export,
    account_documents,
    common_notes,
    metadata,
    namespaces,
    ordered_services,
    refuse_permissive,
    service_document,
)
from mesh.export.literal import inexpressible

_ALWAYS = (
    "overlapping matches of different TrafficTargets do not add up: the first route that fits decides (osm#5297).",
    "paths are compared as they are sent: `/books/../secret` fits `/books/.*`. The policy normalises first.",
    "a source that may send requests to a service may open connections to every port of its pods.",
    "a request that fits no rule is 404 or UNIMPLEMENTED, not a denial; a refused connection looks like a broken one.",
    "headers are written one to a map, as OSM's CRD has them.",
)


def export(documents: Documents) -> Export:
    """The documents for OSM v1.2.

    Raises:
        MeshError: permissive mode is on, or a split is one that OSM does not have.
    """
    refuse_permissive(documents, "OSM")
    result: list[Document] = [_namespace(name) for name in namespaces(documents)]
    result += account_documents(documents)
    result += [service_document(service) for service in ordered_services(documents)]
    opaque = {s.account for s in documents.services.values() if s.seen_as is Protocol.TCP}
    known = {service.account for service in documents.services.values()}
    targets = [documents.targets[n] for n in sorted(documents.targets) if documents.targets[n].destination in known]
    written = [(target, _rules(target, opaque=target.destination in opaque)) for target in targets]
    result += _route_documents(written)
    result += [_target(target, rules) for target, rules in written if rules]
    notes = [*_ALWAYS, *common_notes(documents)]
    seen = {service.account for service in documents.services.values() if service.seen_as is not Protocol.TCP}
    notes += [f"{a}: HTTP rules are left out, because one of its services is opaque." for a in sorted(opaque & seen)]
    notes += [f"TrafficTarget {t.name} is left out: it grants nothing there." for t, rules in written if not rules]
    for root in sorted(documents.splits):
        if not documents.services[root].sealed:
            result.append(_split(documents.services[root], documents.splits[root], notes))
    result.append(_mesh_config(documents))
    return Export("OSM", tuple(result), tuple(notes))


def _namespace(name: str) -> Document:
    """Part of the mesh `osm`, the name that the installation has if none is given."""
    labels = {"openservicemesh.io/monitored-by": "osm"}
    annotations = {"openservicemesh.io/sidecar-injection": "enabled"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
    }


def _rules(target: Target, *, opaque: bool) -> list[HttpRule | TcpRule]:
    """What grants something there: requests where requests are seen, connections where only bytes are."""
    return [rule for rule in target.rules if isinstance(rule, TcpRule) == opaque]


def _route_documents(written: list[tuple[Target, list[HttpRule | TcpRule]]]) -> list[Document]:
    groups: dict[tuple[str, str], dict[str, Match]] = {}
    routes: dict[tuple[str, str], frozenset[int]] = {}
    for target, rules in written:
        for rule in rules:
            if isinstance(rule, HttpRule):
                group = groups.setdefault((target.destination.namespace, _bare(rule.group)), {})
                group |= {match.name: match for match in rule.matches}
            else:
                routes[target.destination.namespace, _bare(rule.route)] = rule.ports
    return [
        _spec("HTTPRouteGroup", name, namespace, {"matches": [_match(match) for match in matches.values()]})
        for (namespace, name), matches in sorted(groups.items())
    ] + [
        _spec("TCPRoute", name, namespace, {"matches": {"ports": sorted(ports)}})
        for (namespace, name), ports in sorted(routes.items())
    ]


def _spec(kind: str, name: str, namespace: str, spec: Document) -> Document:
    version = "specs.smi-spec.io/v1alpha4"
    return {"apiVersion": version, "kind": kind, "metadata": metadata(name, namespace), "spec": spec}


def _match(match: Match) -> Document:
    result: dict[str, Any] = {"name": match.name}
    if match.path is not None:
        result["pathRegex"] = match.path.text
    if match.methods:
        result["methods"] = sorted(match.methods)
    if match.headers:
        result["headers"] = [{name: pattern.text} for name, pattern in match.headers]
    return result


def _bare(name: str) -> str:
    return name.rpartition("/")[2]


def _target(target: Target, rules: list[HttpRule | TcpRule]) -> Document:
    namespace, _, name = target.name.partition("/")
    destination = {"kind": "ServiceAccount", "name": target.destination.name, "namespace": target.destination.namespace}
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": metadata(name, namespace),
        "spec": {
            "destination": destination,
            "rules": [_rule(rule) for rule in rules],
            "sources": [{"kind": "ServiceAccount", "name": s.name, "namespace": s.namespace} for s in target.sources],
        },
    }


def _rule(rule: HttpRule | TcpRule) -> Document:
    if isinstance(rule, TcpRule):
        return {"kind": "TCPRoute", "name": _bare(rule.route)}
    return {"kind": "HTTPRouteGroup", "name": _bare(rule.group), "matches": [match.name for match in rule.matches]}


def _split(root: Service, split: Split, notes: list[str]) -> Document:
    where = f"TrafficSplit {split.name}, {split.origin}"
    if split.matches:
        raise inexpressible("OSM", where, "split", "matches", "it serves TrafficSplit v1alpha2, which has none")
    notes.append(
        f"{where}: OSM wants the selector of the root Service {root.key} to cover the pods of all backends; give them "
        "a label in common, and let the root select that."
    )
    return {
        "apiVersion": "split.smi-spec.io/v1alpha2",
        "kind": "TrafficSplit",
        "metadata": metadata(_bare(split.name), root.namespace),
        "spec": {
            "service": root.name,
            "backends": [{"service": _bare(b.service), "weight": b.weight} for b in split.backends],
        },
    }


def _mesh_config(documents: Documents) -> Document:
    """Merged by `kubectl apply` into the one that OSM's installation has made."""
    traffic = {"enablePermissiveTrafficPolicyMode": False, "enableEgress": documents.config.egress}
    return {
        "apiVersion": "config.openservicemesh.io/v1alpha2",
        "kind": "MeshConfig",
        "metadata": metadata("osm-mesh-config", "osm-system"),
        "spec": {"traffic": traffic},
    }
