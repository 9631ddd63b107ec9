"""Policies as rules of Envoy's RBAC filters.

`rules` is written always, in every filter and in every override: a filter or an override without it lets everybody
through, and Envoy calls such a configuration valid.
"""

from __future__ import annotations

from collections.abc import Iterable

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.decision import MALFORMED_PATH, PERMISSIVE, Policy
from confidential_bookstore.policy.smi.model import Account, HttpRule, Service, Target
from confidential_bookstore.policy.smi.path import SPEAKABLE
from mesh.compiler.wire import Json, extension, regex, typed

HTTP_FILTER = "envoy.filters.http.rbac"

_HTTP_PACKAGE = "extensions.filters.http.rbac.v3"
_ANYTHING: list[Json] = [{"any": True}]
_ANYBODY: list[Json] = [{"any": True}]
_ANYBODY_OF_THE_MESH: list[Json] = [{"authenticated": {}}]


def allow(policies: Json) -> Json:
    """Rules that allow what fits one of the policies and nothing else; without policies, nothing."""
    return {"action": "ALLOW", "policies": policies}


def http_filters() -> list[Json]:
    """What every listener for requests has: paths that no rule can speak of are refused, and then everything is.

    The rules of a service are an override of the second one, in its route configuration.
    """
    malformed: Json = {"not_rule": {"url_path": {"path": regex(SPEAKABLE)}}}
    deny = {"action": "DENY", "policies": {MALFORMED_PATH: {"permissions": [malformed], "principals": _ANYBODY}}}
    return [
        extension(f"{HTTP_FILTER}.{MALFORMED_PATH}", f"{_HTTP_PACKAGE}.RBAC", rules=deny),
        extension(HTTP_FILTER, f"{_HTTP_PACKAGE}.RBAC", rules=allow({})),
    ]


def http_override(policy: Policy, service: Service) -> Json:
    """All rules for requests to a service, one policy for each TrafficTarget, for `typed_per_filter_config`."""
    if policy.documents.config.permissive:
        policies: Json = {PERMISSIVE: {"permissions": _ANYTHING, "principals": _ANYBODY_OF_THE_MESH}}
    else:
        targets = (each for each in policy.documents.targets.values() if each.destination == service.account)
        written = ((target.name, _http_policy(target)) for target in targets)
        policies = {name: each for name, each in sorted(written) if each is not None}
    return {HTTP_FILTER: typed(f"{_HTTP_PACKAGE}.RBACPerRoute", rbac={"rules": allow(policies)})}


def network_filter(stat_prefix: str, policies: Json) -> Json:
    """The same for connections."""
    message = "extensions.filters.network.rbac.v3.RBAC"
    return extension("envoy.filters.network.rbac", message, stat_prefix=stat_prefix, rules=allow(policies))


def connections_of(account: Account) -> Json:
    """The policies for a filter chain that is one account's.

    They say nothing of targets, so that a chain stays the same, and its connections open, whichever target grants it.
    """
    return {str(account): {"permissions": _ANYTHING, "principals": principals([account])}}


def connections_of_the_rest(policy: Policy) -> Json:
    """The policies for connections that fit no account's filter chain."""
    if policy.documents.config.permissive:
        return {PERMISSIVE: {"permissions": _ANYTHING, "principals": _ANYBODY_OF_THE_MESH}}
    return {}


def principals(accounts: Iterable[Account]) -> list[Json]:
    """Any of these accounts; there has to be one, because none would mean anybody."""
    written: list[Json] = [
        {"authenticated": {"principal_name": {"exact": account.principal}}} for account in sorted(set(accounts))
    ]
    if not written:
        raise ValueError("rules for nobody")
    return written


def header_name(name: str) -> str:
    """As HTTP/2 has it: a request's host is its `:authority`."""
    return ":authority" if name == "host" else name


def _http_policy(target: Target) -> Json | None:
    matches = [match for rule in target.rules if isinstance(rule, HttpRule) for match in rule.matches]
    if not matches or not target.sources:
        return None
    return {"permissions": [_permission(match) for match in matches], "principals": principals(target.sources)}


def _permission(match: Match) -> Json:
    conditions: list[Json] = []
    if match.path is not None:
        conditions.append({"url_path": {"path": regex(match.path.text)}})
    if match.methods:
        either = [{"header": {"name": ":method", "string_match": {"exact": each}}} for each in sorted(match.methods)]
        conditions.append({"or_rules": {"rules": either}})
    conditions += [
        {"header": {"name": header_name(name), "string_match": regex(pattern.text)}} for name, pattern in match.headers
    ]
    return {"and_rules": {"rules": conditions or _ANYTHING}}
