"""Changes to policy files: what `cbs policy allow` and its like do. Pure functions from texts to changed texts.

Documents that are not meant stay byte for byte, with their comments. Who writes the texts has them read again by
whoever watches the folder; here they have been already.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Account, HttpRule, MeshConfig, Protocol, Service, TcpRule
from confidential_bookstore.policy.smi.path import normalised
from confidential_bookstore.policy.smi.resolving import services_of
from confidential_bookstore.policy.smi.route_group import METHODS
from confidential_bookstore.policy.smi.splicing import Edits, Folder
from confidential_bookstore.policy.smi.traffic_split import read_split

ALLOW_FILE, SPLIT_FILE, CONFIG_FILE = "cbs-allow.yaml", "cbs-split.yaml", "cbs-mesh-config.yaml"
OWN = "cbs-"  # what begins so was written here, and goes when nobody needs it

_ACCESS, _SPECS = "access.smi-spec.io/v1alpha3", "specs.smi-spec.io/v1alpha4"
_SPLIT, _CONFIG = "split.smi-spec.io/v1alpha2", "config.openservicemesh.io/v1alpha2"
_KINDS = ("HTTPRouteGroup", "TCPRoute")
_PERMISSIVE = "enablePermissiveTrafficPolicyMode"


def allow(
    texts: Mapping[str, str], source: Account, destination: Account, grpc_path: str | None, *, method: str = "POST"
) -> Edits:
    """Let `source` make the requests of one path, or all if it is None, and connect. Nothing, if it may already.

    A TrafficTarget of its own, with an HTTPRouteGroup and a TCPRoute, is added to `cbs-allow.yaml`; one more path for
    the same two goes into the same group. Permissive mode does not count as being allowed.

    Args:
        texts: by file name.
        source: who calls.
        destination: who is called.
        grpc_path: `/package.Service/Method`; a path where the destination speaks HTTP.
        method: of HTTP.

    Raises:
        PolicyError: the texts break a rule, an account has no service, or the destination has no such requests.
    """
    folder = Folder(texts)
    for account in (source, destination):
        if not services_of(account, folder.documents.services):
            raise PolicyError(ALLOW_FILE, "", "no service runs as this account", got=account)
    if source == destination:
        raise PolicyError(ALLOW_FILE, "", "an account needs no rule for itself", got=source)
    called = services_of(destination, folder.documents.services)
    wanted = _wanted(called, grpc_path, method)
    if not _allowed(folder, source, destination, wanted):
        _grant(folder, source, destination, wanted)
    return folder.edits()


def deny(texts: Mapping[str, str], source: Account, destination: Account) -> Edits:
    """Take `source` out of every target of `destination`.

    A target that has no other source goes, and so do groups and routes that `allow` has made and nobody else uses. A
    file without documents goes, too.

    Raises:
        PolicyError: the texts break a rule.
    """
    folder = Folder(texts)
    gone: set[str] = set()
    for name, target in folder.documents.targets.items():
        if target.destination != destination or source not in target.sources:
            continue
        document = folder.written["TrafficTarget", name]
        if target.sources == (source,):
            gone.add(name)
            folder.remove(document)
        else:
            field = dict(document.spec.pairs())["sources"]
            folder.put(field, [_account(each) for each in target.sources if each != source])
    used = set(_used(folder, set(folder.documents.targets) - gone))
    for rule in sorted(set(_used(folder, gone, splits=False)) - used):
        if rule[1].partition("/")[2].startswith(OWN):
            folder.remove(folder.written[rule])
    return folder.edits()


def split(texts: Mapping[str, str], root: str, weights: Mapping[str, int]) -> Edits:
    """Share the calls to `root` among services, all as `namespace/name`. A split that is there gets other backends.

    Raises:
        PolicyError: the texts break a rule, or the split would: a service that is not known, weights that are all 0.
    """
    folder = Folder(texts)
    namespace, _, name = root.partition("/")
    found = folder.documents.splits.get(root)
    if found is not None:
        if {each.service: each.weight for each in found.backends} == weights:
            return {}
        document = folder.written["TrafficSplit", found.name]
        folder.put(dict(document.spec.pairs())["backends"], _backends(weights, document.namespace))
        return folder.edits()
    spec = {"service": name, "backends": _backends(weights, namespace)}
    free = next(
        each for each in _names(f"{OWN}{name}") if ("TrafficSplit", f"{namespace}/{each}") not in folder.written
    )
    folder.add(SPLIT_FILE, _document(_SPLIT, "TrafficSplit", namespace, free, spec))
    return folder.edits()


def permissive(texts: Mapping[str, str], on: bool) -> Edits:
    """Permissive mode on or off, in the MeshConfig that is there, or in a new one.

    Raises:
        PolicyError: the texts break a rule.
    """
    folder = Folder(texts)
    if folder.documents.config.permissive == on:
        return {}
    configs = [document for (kind, _), document in folder.written.items() if kind == "MeshConfig"]
    if not configs:
        spec = {"traffic": {_PERMISSIVE: on}}
        folder.add(CONFIG_FILE, _document(_CONFIG, "MeshConfig", "osm-system", "osm-mesh-config", spec))
        return folder.edits()
    traffic = dict(configs[0].spec.pairs())["traffic"]
    fields = dict(traffic.pairs())
    if _PERMISSIVE in fields:
        folder.put(fields[_PERMISSIVE], on)
    else:
        folder.put(traffic, {name: value.boolean() for name, value in fields.items()} | {_PERMISSIVE: on})
    return folder.edits()


def _wanted(called: list[Service], path: str | None, method: str) -> list[dict[str, Any]]:
    """Matches of an HTTPRouteGroup; none where a connection is all there is."""
    if all(service.protocol is Protocol.TCP for service in called):
        if path is not None:
            raise PolicyError(ALLOW_FILE, "", f"{called[0].key} has connections, not requests", got=path)
        return []
    if path is not None:
        if normalised(path) != path or method not in METHODS - {"*"}:
            raise PolicyError(ALLOW_FILE, "", "no request has this form", got=f"{method} {path}")
        name = path.rpartition("/")[2] or "root"
        return [{"name": name, "pathRegex": re.escape(path), "methods": [method]}]
    known = sorted({name for service in called for name in service.grpc_services})
    if not known or any(service.protocol is Protocol.HTTP for service in called):
        return [{"name": "everything", "pathRegex": ".*", "methods": ["*"]}]
    return [{"name": name, "pathRegex": f"/{re.escape(name)}/.*", "methods": ["POST"]} for name in known]


def _allowed(folder: Folder, source: Account, destination: Account, wanted: list[dict[str, Any]]) -> bool:
    """Whether it may already, which for a pattern means that the same one is granted."""
    policy = Policy(replace(folder.documents, config=MeshConfig()))
    ports = {service.port for service in services_of(destination, folder.documents.services)}
    rules = [rule for target in policy.between(source, destination) for rule in target.rules]
    matches = [match for rule in rules if isinstance(rule, HttpRule) for match in rule.matches]
    connects = all(policy.allow(source, destination, port).allowed for port in ports)
    return connects and all(any(_covers(match, each) for match in matches) for each in wanted)


def _covers(match: Match, wanted: dict[str, Any]) -> bool:
    [method] = wanted["methods"]
    if match.headers or (match.methods and method not in match.methods):
        return False
    path, pattern = match.path, wanted["pathRegex"]
    plain = re.sub(r"\\(.)", r"\1", pattern)  # the path itself, where the pattern is one path
    return path is None or path.text in (".*", pattern) or (re.escape(plain) == pattern and path.matches(plain))


def _grant(folder: Folder, source: Account, destination: Account, wanted: list[dict[str, Any]]) -> None:
    namespace = destination.namespace
    ports = sorted({service.port for service in services_of(destination, folder.documents.services)})
    name = next(
        each
        for each in _names(f"{OWN}{source}-to-{destination.name}")
        if not any((kind, f"{namespace}/{each}") in folder.written for kind in ("TrafficTarget", *_KINDS))
        or (wanted and _is_own(folder, f"{namespace}/{each}", source, destination))
    )
    if ("TrafficTarget", f"{namespace}/{name}") in folder.written:
        _extend(folder, f"{namespace}/{name}", wanted, ports)
        return
    rules = [{"kind": kind, "name": name} for kind in (_KINDS if wanted else _KINDS[1:])]
    if wanted:
        folder.add(ALLOW_FILE, _document(_SPECS, "HTTPRouteGroup", namespace, name, {"matches": wanted}))
    folder.add(ALLOW_FILE, _document(_SPECS, "TCPRoute", namespace, name, {"matches": {"ports": ports}}))
    spec = {"destination": _account(destination), "sources": [_account(source)], "rules": rules}
    folder.add(ALLOW_FILE, _document(_ACCESS, "TrafficTarget", namespace, name, spec))


def _is_own(folder: Folder, key: str, source: Account, destination: Account) -> bool:
    """Whether this target is for these two only, and its group and route are for nobody else."""
    target = folder.documents.targets.get(key)
    if target is None or (target.sources, target.destination) != ((source,), destination):
        return False
    own = {(kind, key) for kind in _KINDS}
    others = set(_used(folder, set(folder.documents.targets) - {key}))
    return set(_used(folder, {key}, splits=False)) == own and not own & others


def _extend(folder: Folder, key: str, wanted: list[dict[str, Any]], ports: list[int]) -> None:
    field = dict(folder.written["HTTPRouteGroup", key].spec.pairs())["matches"]
    matches = [_plain(entry) for entry in field.list()]
    for each in wanted:
        taken = {match["name"] for match in matches}
        free = next(name for name in _names(each["name"]) if name not in taken)
        matches.append(each | {"name": free})
    folder.put(field, matches)
    route = dict(folder.written["TCPRoute", key].spec.pairs())["matches"]
    folder.put(dict(route.pairs())["ports"], ports)


def _plain(entry: Any) -> dict[str, Any]:
    """A match as data again."""
    fields = dict(entry.pairs())
    plain: dict[str, Any] = {name: fields[name].text() for name in ("name", "pathRegex") if name in fields}
    if "methods" in fields:
        plain["methods"] = [method.text() for method in fields["methods"].list()]
    if "headers" in fields:
        plain["headers"] = [
            {name: value.text() for name, value in header.pairs()} for header in fields["headers"].list()
        ]
    return plain


def _used(folder: Folder, targets: set[str], *, splits: bool = True) -> Iterator[tuple[str, str]]:
    """Kind and name of the groups and routes that these targets use, and the splits."""
    for name in targets:
        for rule in folder.documents.targets[name].rules:
            yield "HTTPRouteGroup" if isinstance(rule, HttpRule) else "TCPRoute", _key(rule)
    for (kind, _), document in folder.written.items() if splits else ():
        if kind == "TrafficSplit":
            for group in read_split(document).groups:
                yield "HTTPRouteGroup", f"{document.namespace}/{group.text()}"


def _key(rule: HttpRule | TcpRule) -> str:
    return rule.group if isinstance(rule, HttpRule) else rule.route


def _names(first: str) -> Iterator[str]:
    yield first
    for number in itertools.count(2):
        yield f"{first}-{number}"


def _account(account: Account) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}


def _backends(weights: Mapping[str, int], namespace: str) -> list[dict[str, Any]]:
    named = [(key.partition("/"), weight) for key, weight in weights.items()]
    return [
        {"service": name if own == namespace else f"{name}.{own}", "weight": weight} for (own, _, name), weight in named
    ]


def _document(version: str, kind: str, namespace: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
