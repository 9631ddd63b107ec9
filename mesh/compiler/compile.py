"""A policy and a layout become the configuration of one sidecar. A pure function: the same in, the same out."""

from __future__ import annotations

from dataclasses import dataclass

from confidential_bookstore.errors import ConfigurationError, MeshError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Protocol
from mesh.compiler import clusters, routes
from mesh.compiler.inbound import inbound
from mesh.compiler.layout import Layout
from mesh.compiler.outbound import outbound, reached, route
from mesh.compiler.wire import Json


@dataclass(frozen=True, slots=True)
class Resources:
    """Envoy's clusters, listeners and route configurations, as JSON. No two sidecars have one of the same name."""

    clusters: list[Json]
    listeners: list[Json]
    routes: list[Json]


def compile_sidecar(policy: Policy, layout: Layout, service_key: str) -> Resources:
    """The configuration of the sidecar of one service.

    Raises:
        ConfigurationError: the layout lacks a service that is needed.
        MeshError: the policy asks for what this mesh cannot do.
    """
    if policy.documents.config.egress:
        raise MeshError(
            f"{policy.documents.config.origin}: there is no egress on one machine: nothing leads past the sidecars",
            hint="set enableEgress to false",
        )
    placement = layout.services.get(service_key)
    if placement is None:
        raise ConfigurationError(f"the layout has no service {service_key}")
    service = placement.service
    resources = Resources(reached(policy, layout, service, placement.outbound), [], [])
    if placement.inbound:
        resources.clusters.append(clusters.application(service, placement.application))
        resources.listeners.append(inbound(policy, service, placement.inbound))
        if service.seen_as is not Protocol.TCP:
            resources.routes.append(routes.inbound(policy, service))
    for key, address in sorted(placement.outbound.items()):
        called, _ = layout.inbound(layout.services[key].service)
        resources.listeners.append(outbound(policy, layout, service, called, address))
        if called.seen_as is not Protocol.TCP:
            resources.routes.append(route(policy, layout, service, called))
    return resources
