"""JSON Schemas of the policy documents, for editors and for checks before anything of ours is installed.

They are of the strict subset that is read here, so they refuse what OSM takes in silence, such as a target without
sources. What a schema cannot see (a group that does not exist, a pattern that is none of RE2) is found by reading.
They never refuse what can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from confidential_bookstore.policy.smi import (
    mesh_config,
    route_group,
    services,
    tcp_route,
    traffic_split,
    traffic_target,
)
from confidential_bookstore.policy.smi.model import Protocol

Schema: TypeAlias = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MOST_WEIGHT, _MOST_BACKENDS = 1_000_000, 100  # as in traffic_split.py
_TEXT: Schema = {"type": "string"}
_BOOLEAN: Schema = {"type": "boolean"}
_LABEL: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
_NAME: Schema = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"}
_PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
_TEXTS: Schema = {"type": "object", "additionalProperties": _TEXT}


def json_schemas() -> dict[str, Schema]:
    """The schema of each kind and version, by file name: `TrafficTarget-v1alpha3.json`."""
    schemas: dict[str, Schema] = {}
    for kind, versions, name, spec in (
        ("HTTPRouteGroup", route_group.API_VERSIONS, _NAME, _route_group()),
        ("MeshConfig", mesh_config.API_VERSIONS, _NAME, _mesh_config()),
        ("MeshService", services.API_VERSIONS, _LABEL, _service()),
        ("TCPRoute", tcp_route.API_VERSIONS, _NAME, _tcp_route()),
        ("TrafficSplit", traffic_split.API_VERSIONS[:-1], _NAME, _split({})),
        ("TrafficSplit", traffic_split.API_VERSIONS[-1:], _NAME, _split({"matches": _list(_named("HTTPRouteGroup"))})),
        ("TrafficTarget", traffic_target.API_VERSIONS, _NAME, _target()),
    ):
        for version in versions:
            schemas[f"{kind}-{version.rpartition('/')[2]}.json"] = _document(kind, version, name, spec)
    return schemas


def _document(kind: str, version: str, name: Schema, spec: Schema) -> Schema:
    metadata = _map({"name": name}, {"namespace": _LABEL, "labels": _TEXTS, "annotations": _TEXTS})
    parts = {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": metadata, "spec": spec}
    return {"$schema": DIALECT, "title": f"{kind} {version}", **_map(parts)}


def _target() -> Schema:
    account = _map({"kind": {"const": "ServiceAccount"}, "name": _LABEL}, {"namespace": _LABEL})
    http = _map({"kind": {"const": "HTTPRouteGroup"}, "name": _NAME}, {"matches": _list(_TEXT)})
    rules = _list({"oneOf": [http, _named("TCPRoute")]})
    return _map({"destination": account, "sources": _list(account, uniqueItems=True), "rules": rules})


def _route_group() -> Schema:
    header = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}$"},
        "additionalProperties": _TEXT,
    }
    methods = _list({"enum": sorted(route_group.METHODS)})
    optional = {"pathRegex": _TEXT, "methods": methods, "headers": _list(header)}
    return _map({"matches": _list(_map({"name": {"type": "string", "minLength": 1}}, optional))})


def _tcp_route() -> Schema:
    return _map({"matches": _map({"ports": {"type": "array", "items": _PORT, "uniqueItems": True}})})


def _split(optional: Mapping[str, Schema]) -> Schema:
    weight = {"type": "integer", "minimum": 0, "maximum": _MOST_WEIGHT}
    backends = _list(
        _map({"service": _NAME, "weight": weight}),
        maxItems=_MOST_BACKENDS,
        contains={"properties": {"weight": {"minimum": 1}}},
    )
    return _map({"service": _NAME, "backends": backends}, optional)


def _mesh_config() -> Schema:
    return _map({"traffic": _map({}, {"enablePermissiveTrafficPolicyMode": _BOOLEAN, "enableEgress": _BOOLEAN})})


def _service() -> Schema:
    word = "[A-Za-z_][A-Za-z0-9_]*"
    required = {
        "serviceAccount": _LABEL,
        "port": _PORT,
        "appProtocol": {"enum": sorted(each.value for each in Protocol)},
    }
    optional = {"marble": _LABEL, "grpcServices": _list({"type": "string", "pattern": rf"^{word}(\.{word})*$"})}
    only_grpc = {"properties": {"appProtocol": {"const": Protocol.GRPC.value}}}
    return {**_map(required, optional), "dependentSchemas": {"grpcServices": only_grpc}}


def _named(kind: str) -> Schema:
    return _map({"kind": {"const": kind}, "name": _NAME})


def _map(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, **more}
