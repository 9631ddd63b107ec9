"""What a sidecar takes from its application, for other services, and how traffic is split.

There is a listener for each service that the layout lets it call, whether or not policy grants the call: to refuse is
the server's part, and so the refusal is seen and logged, with the name of who was refused.

Requests are split one by one, also those of one connection, and a change of weights reaches open connections. Bytes are
split by connection; a change of weights ends the connections of that listener. What is sealed is never split here: an
attested client has to know whom it will meet before it says a word, and a host must not choose it (ADR 0012).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Protocol, Service, Split
from mesh.compiler import clusters, names, routes
from mesh.compiler.layout import Address, Layout
from mesh.compiler.listeners import connection_manager, listener, tcp_proxy
from mesh.compiler.wire import Json


def outbound(policy: Policy, layout: Layout, caller: Service, called: Service, address: Address) -> Json:
    """The listener for a caller's calls to one service."""
    name = names.outbound(caller, called)
    if called.seen_as is Protocol.TCP:
        split = split_of(policy, called)
        shares = _shares(policy, layout, caller, split) if split and not split.matches else {}
        whither: Json = {"weighted_clusters": routes.weighted(shares)} if shares else {"cluster": name}
        filters = [tcp_proxy(name, **whither)]
    else:
        filters = [connection_manager(name, [], server_header_transformation="PASS_THROUGH")]
    return listener(name, address, "OUTBOUND", [{"name": name, "filters": filters}])


def route(policy: Policy, layout: Layout, caller: Service, called: Service) -> Json:
    """The route configuration of that listener, if it takes requests."""
    name = names.outbound(caller, called)
    split = split_of(policy, called)
    return routes.outbound(name, name, _shares(policy, layout, caller, split), split.matches if split else ())


def reached(policy: Policy, layout: Layout, caller: Service, called: Mapping[str, Address]) -> list[Json]:
    """The clusters of all services that a caller's calls may get to: those it calls, and the backends of their splits.

    Raises:
        ConfigurationError: the layout lacks one of them.
    """
    found = [layout.inbound(layout.services[key].service) for key in called]
    for service, _ in list(found):
        if split := split_of(policy, service):
            found += [layout.inbound(each) for each in _backends(policy, split)]
    unique = {service.key: (service, address) for service, address in found}
    return [clusters.sidecar_of(caller, *unique[key]) for key in sorted(unique)]


def split_of(policy: Policy, called: Service) -> Split | None:
    """The split that is this sidecar's to do."""
    return None if called.sealed else policy.documents.splits.get(called.key)


def _backends(policy: Policy, split: Split) -> list[Service]:
    return [policy.documents.services[backend.service] for backend in split.backends]


def _shares(policy: Policy, layout: Layout, caller: Service, split: Split | None) -> dict[str, int]:
    """By cluster; two backends may be one program."""
    shares: Counter[str] = Counter()
    if split:
        for backend, service in zip(split.backends, _backends(policy, split), strict=True):
            shares[names.outbound(caller, layout.inbound(service)[0])] += backend.weight
    return shares
