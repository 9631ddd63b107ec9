"""What Envoy is started with, and the files that it then reads.

A sidecar has a folder, and Envoy is started in it, because the configuration names its files without its path:

    cds.json, lds.json          all clusters, all listeners
    rds-<name>.json             one route configuration each: Envoy takes no file with two
    sds-identity.json           its certificate and key
    sds-authority.json          the root it trusts

Envoy reads a file again when another is renamed into its place. Which version is in force, it says in its statistics
(`/stats?type=TextReadouts`); `version_statistics` has the name for each file:

    cds.json    cluster_manager.cds.version_text
    lds.json    listener_manager.lds.version_text
    rds-*.json  http.<name>.rds.<name>.version_text

and refusals are counted beside it, in `update_rejected`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.pattern import MAXIMUM_PROGRAM_SIZE
from confidential_bookstore.secret import Secret
from mesh.compiler import names, tls
from mesh.compiler.compile import Resources
from mesh.compiler.listeners import route_file
from mesh.compiler.wire import Json, extension, file_source, typed

CLUSTERS_FILE = "cds.json"
LISTENERS_FILE = "lds.json"
_MOST_CONNECTIONS = 20_000
# Several values of one header are one value, joined by ",", as policy/match.py says: else any of them would grant.
_JOINED_HEADERS = {
    "envoy.reloadable_features.match_headers_individually": False,
    "envoy.reloadable_features.rbac_match_headers_individually": False,
}

# One worker; what is taken away from a configuration ends at once; a refusal is in the access log at once.
ARGUMENTS = (
    *("--concurrency", "1", "--use-dynamic-base-id"),
    *("--drain-time-s", "0", "--drain-strategy", "immediate"),
    *("--file-flush-interval-msec", "100"),
)


def bootstrap(service_key: str, folder: Path, admin_socket: Path) -> Json:
    """For one sidecar. Envoy's working directory has to be `folder`; `admin_socket` is for its owner only."""
    return {
        "node": {"id": service_key, "cluster": service_key},
        "admin": {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}},
        **_limits(),
        "dynamic_resources": {
            "cds_config": file_source(str(folder / CLUSTERS_FILE)),
            "lds_config": file_source(str(folder / LISTENERS_FILE)),
        },
    }


def files(resources: Resources, version: str) -> dict[str, Json]:
    """A sidecar's files, without secrets, by name, in the order in which they have to come into force."""
    return {
        CLUSTERS_FILE: discovery(version, resources.clusters),
        LISTENERS_FILE: discovery(version, resources.listeners),
        **{route_file(each["name"]): discovery(version, [each]) for each in resources.routes},
    }


def secret_files(secrets_: Iterable[Json], version: str) -> dict[str, Json]:
    """The files for what `secrets` returns."""
    return {
        tls.IDENTITY_FILE if "tls_certificate" in each else tls.AUTHORITY_FILE: discovery(version, [each])
        for each in secrets_
    }


def version_statistics(resources: Resources) -> dict[str, str]:
    """By file name: the statistic of Envoy that holds the version in force."""
    return {
        CLUSTERS_FILE: "cluster_manager.cds.version_text",
        LISTENERS_FILE: "listener_manager.lds.version_text",
        **{
            route_file(each["name"]): f"http.{each['name']}.rds.{each['name']}.version_text"
            for each in resources.routes
        },
    }


def discovery(version: str, resources: Iterable[Json]) -> Json:
    """A DiscoveryResponse."""
    return {"version_info": version, "resources": list(resources)}


def secrets(service_key: str, chain_pem: bytes, key_pem: Secret[bytes], ca_pem: bytes) -> list[Json]:
    """A sidecar's own certificate with its key, and the root it trusts. They hold the key in clear.

    Raises:
        MeshError: there is no root; Envoy would then trust everybody.
    """
    if b"-----BEGIN CERTIFICATE-----" not in ca_pem:
        raise MeshError(f"no root certificate for the sidecar of {service_key}")
    own = {"certificate_chain": _inline(chain_pem), "private_key": _inline(key_pem.reveal())}
    package = "extensions.transport_sockets.tls.v3.Secret"
    return [
        typed(package, name=names.identity(service_key), tls_certificate=own),
        typed(package, name=names.authority(service_key), validation_context={"trusted_ca": _inline(ca_pem)}),
    ]


def validation_config(sidecars: Iterable[Resources], secrets_: Iterable[Json]) -> Json:
    """All sidecars in one configuration without files: for `envoy --mode validate`; it can be run, too."""
    resources = list(sidecars)
    routes = {each["name"]: each for sidecar in resources for each in sidecar.routes}
    return {
        **_limits(),
        "static_resources": {
            "clusters": [_static(each, routes) for sidecar in resources for each in sidecar.clusters],
            "listeners": [_static(each, routes) for sidecar in resources for each in sidecar.listeners],
            "secrets": [{key: value for key, value in each.items() if key != "@type"} for each in secrets_],
        },
    }


def _static(resource: Json, routes: Mapping[str, Json]) -> Json:
    """Without its type, and with what it would read from files."""
    static: Json = _inlined(resource, routes)
    del static["@type"]
    return static


def _inlined(value: Any, routes: Mapping[str, Json]) -> Any:
    if isinstance(value, list):
        return [_inlined(each, routes) for each in value]
    if not isinstance(value, dict):
        return value
    inlined = {key: _inlined(each, routes) for key, each in value.items() if key not in {"rds", "sds_config"}}
    if "rds" in value:
        route = routes[value["rds"]["route_config_name"]]
        inlined["route_config"] = {key: each for key, each in route.items() if key != "@type"}
    return inlined


def _limits() -> Json:
    runtime = {
        **_JOINED_HEADERS,
        "re2.max_program_size.error_level": MAXIMUM_PROGRAM_SIZE,
    }  # as in policy/pattern.py; Envoy's own is 100
    connections = extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=_MOST_CONNECTIONS,
    )
    return {
        "layered_runtime": {"layers": [{"name": "mesh", "static_layer": runtime}]},
        "overload_manager": {"resource_monitors": [connections]},
    }


def _inline(pem: bytes) -> Json:
    return {"inline_string": pem.decode("ascii")}
