"""What every export consists of: Kubernetes documents, what the target cannot express, and the YAML text of both.

Workloads are known as in the original demo: pods carry the label `app: <name of their service account>`. Several
services may be the same pods, as bookstore and bookstore-v1 are; policy is written once for each port of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.model import (
    Account,
    Documents,
    HttpRule,
    Protocol,
    Service,
    Target,
    TcpRule,
)

Document = dict[str, Any]

TARGETS_ANNOTATION = "mesh.confidential-bookstore/traffic-targets"
_WIDTH = 116


@dataclass(frozen=True, slots=True)
class Export:
    """What to apply to the cluster, and what is different there."""

    mesh: str
    documents: tuple[Document, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """What one target grants to its sources at a port: requests that fit `match`, or connections if that is None."""

    target: Target
    match: Match | None = None

    @property
    def sources(self) -> tuple[Account, ...]:
        """Who may."""
        return self.target.sources


def render(export: Export, command: str) -> str:
    """One YAML text with many documents; it begins with a comment that says what is different there.

    Args:
        export: the documents and the notes.
        command: what has written it.
    """
    lines = [f"Written by `{command}`. Do not edit it: change the policy and export it again.", ""]
    lines += [f"What {export.mesh} does not do as the policy says:"]
    for note in export.notes:
        lines += textwrap.wrap(
            " ".join(note.split()), _WIDTH, initial_indent="* ", subsequent_indent="  ", break_on_hyphens=False
        )
    comment = "".join(f"# {line}".rstrip() + "\n" for line in lines)
    return comment + "".join("---\n" + yaml.safe_dump(each, sort_keys=False, width=120) for each in export.documents)


def refuse_permissive(documents: Documents, mesh: str) -> None:
    """Raises where everybody may call everything.

    Raises:
        MeshError: permissive mode is on. It is meant for an hour on one machine; written into a cluster it stays.
    """
    if documents.config.permissive:
        hint = "switch it off before the export: a policy that is not in force is not worth exporting"
        raise MeshError("permissive mode is not exported", got=f"{documents.config.origin} ({mesh})", hint=hint)


def ordered_services(documents: Documents) -> list[Service]:
    """By namespace and name."""
    return [documents.services[key] for key in sorted(documents.services)]


def workloads(documents: Documents) -> list[Service]:
    """One service for each port of the pods of each account; it has the gRPC services of all that are there.

    Raises:
        MeshError: two services of an account say different things of the same port.
    """
    found: dict[tuple[Account, int], Service] = {}
    for service in sorted(ordered_services(documents), key=lambda each: each.name != each.account.name):
        first = found.setdefault((service.account, service.port), service)
        if first.seen_as is not service.seen_as:
            got = f"{first.seen_as.value} and {service.seen_as.value} on port {service.port}"
            raise MeshError(f"{first.key} and {service.key} are the same pods", got=got, expected="one protocol")
        names = tuple(dict.fromkeys((*first.grpc_services, *service.grpc_services)))
        found[service.account, service.port] = replace(first, grpc_services=names)
    return sorted(found.values(), key=lambda each: each.key)


def namespaces(documents: Documents) -> list[str]:
    """Those in which services run."""
    return sorted({service.namespace for service in documents.services.values()})


def grants(documents: Documents, service: Service) -> Iterator[Grant]:
    """What is granted at this service's port, in the order of the targets' names.

    A connection to a port that no service has is not granted, whatever a TCPRoute says. Where requests are seen, HTTP
    rules count; where only bytes are seen, TCP rules do.
    """
    at = {service.port}
    for name in sorted(documents.targets):
        target = documents.targets[name]
        if target.destination != service.account:
            continue
        for rule in target.rules:
            if isinstance(rule, HttpRule) and service.seen_as is not Protocol.TCP:
                yield from (Grant(target, match=match) for match in rule.matches)
            elif isinstance(rule, TcpRule) and service.seen_as is Protocol.TCP and service.port in (rule.ports or at):
                yield Grant(target)


def common_notes(documents: Documents) -> list[str]:
    """What is different in every target."""
    notes = []
    if sealed := [service.key for service in ordered_services(documents) if service.sealed]:
        notes.append(
            f"sealed services ({', '.join(sealed)}): their traffic is attested TLS from end to end, so the mesh "
            "decides about connections only. Who may call which method is decided inside the marbles, by the manifest."
        )
    accounts = {service.account for service in documents.services.values()}
    notes += [
        f"TrafficTarget {name} is left out: no service is known that runs as {target.destination}."
        for name, target in sorted(documents.targets.items())
        if target.destination not in accounts
    ]
    for root in sorted(documents.splits):
        split = documents.splits[root]
        if documents.services[root].sealed:
            notes.append(
                f"TrafficSplit {split.name} is left out: {root} is sealed, and its callers split by attested marble "
                "type, with the weights of the manifest."
            )
    return notes


def account_documents(documents: Documents) -> list[Document]:
    """A ServiceAccount for each account that a service runs as."""
    accounts = sorted({service.account for service in documents.services.values()}, key=lambda a: (a.namespace, a.name))
    return [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(a.name, a.namespace)} for a in accounts]


def service_document(service: Service, annotations: Mapping[str, str] | None = None) -> Document:
    """Its Service. `appProtocol` is what a sidecar sees: tcp if it is sealed."""
    port = {
        "name": service.seen_as.value,
        "port": service.port,
        "targetPort": service.port,
        "appProtocol": service.seen_as.value,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(service.name, service.namespace, annotations),
        "spec": {"selector": labels(service), "ports": [port]},
    }


def labels(service: Service) -> dict[str, str]:
    """Of its pods."""
    return {"app": service.account.name}


def metadata(name: str, namespace: str, annotations: Mapping[str, str] | None = None) -> Document:
    """The metadata of a document."""
    return {"name": name, "namespace": namespace} | ({"annotations": dict(annotations)} if annotations else {})


def traced(targets: Iterable[Target]) -> dict[str, str]:
    """An annotation that says which TrafficTargets something comes from."""
    names = sorted({target.name for target in targets})
    return {TARGETS_ANNOTATION: ", ".join(names)} if names else {}
