"""Route configurations, which open connections follow: who may call, and which backend a call goes to."""

from __future__ import annotations

from collections.abc import Mapping

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Service
from mesh.compiler import names, rbac
from mesh.compiler.wire import Json, regex, typed

_EVERYTHING: Json = {"prefix": "/"}


def inbound(policy: Policy, service: Service) -> Json:
    """Requests to a service: its rules. The routes themselves only forward."""
    forward = _route(_EVERYTHING, {"cluster": names.application(service)})
    override = rbac.http_override(policy, service)
    return _configuration(names.inbound(service), [forward], typed_per_filter_config=override)


def outbound(name: str, root: str, shares: Mapping[str, int], matches: tuple[Match, ...]) -> Json:
    """A caller's requests to one service.

    Args:
        name: of the route configuration.
        root: the cluster of the service itself.
        shares: by cluster, where requests go instead; empty if they are not split. Without share there is no request.
        matches: only requests that fit any of them are split; empty if all are.
    """
    split = {"weighted_clusters": weighted(shares)}
    forward = _route(_EVERYTHING, {"cluster": root})
    if not shares:
        return _configuration(name, [forward])
    if not matches:
        return _configuration(name, [_route(_EVERYTHING, split)])
    return _configuration(name, [*(_route(_fitting(match), split) for match in matches), forward])


def weighted(shares: Mapping[str, int]) -> Json:
    """Clusters with their weights; the same form for requests and connections."""
    return {"clusters": [{"name": name, "weight": weight} for name, weight in shares.items() if weight]}


def _configuration(name: str, routes: list[Json], **more: Json) -> Json:
    hosts = [{"name": name, "domains": ["*"], "routes": routes}]
    # The order of updates is the controller's: clusters first.
    return typed("config.route.v3.RouteConfiguration", name=name, virtual_hosts=hosts, validate_clusters=False, **more)


def _route(match: Json, action: Json) -> Json:
    return {"match": match, "route": {**action, "timeout": "0s"}}


def _fitting(match: Match) -> Json:
    headers: list[Json] = [
        {"name": rbac.header_name(name), "string_match": regex(pattern.text)} for name, pattern in match.headers
    ]
    if match.methods:
        headers.append({"name": ":method", "string_match": regex("|".join(sorted(match.methods)))})
    return {**(_EVERYTHING if match.path is None else regex(match.path.text)), "headers": headers}
