"""The forms of listeners and connection managers that both directions share.

Nothing is cut short by a sidecar: deadlines are the caller's.
"""

from __future__ import annotations

from typing import Any

from mesh.compiler.layout import Address
from mesh.compiler.wire import Json, extension, file_source, socket, typed

_HTTP_PACKAGE = "extensions.filters.http"
_NEVER = "0s"


def listener(name: str, address: Address, direction: str, chains: list[Json], **more: Any) -> Json:
    """One listener; `direction` is INBOUND or OUTBOUND."""
    return typed(
        "config.listener.v3.Listener",
        name=name,
        address=socket(address),
        traffic_direction=direction,
        enable_reuse_port=False,  # nobody else may share the port
        filter_chains=chains,
        **more,
    )


def route_file(name: str) -> str:
    """The file of a route configuration. Each has its own: Envoy takes one from a file, no more."""
    return f"rds-{name}.json"


def connection_manager(name: str, filters: list[Json], **more: Any) -> Json:
    """Takes requests; its routes come from their own file, under the same name as its statistics."""
    return extension(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type="AUTO",
        stream_idle_timeout=_NEVER,
        rds={"route_config_name": name, "config_source": file_source(route_file(name))},
        http_filters=[*filters, extension("envoy.filters.http.router", f"{_HTTP_PACKAGE}.router.v3.Router")],
        **more,
    )


def tcp_proxy(name: str, **more: Any) -> Json:
    """Takes bytes."""
    message = "extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return extension("envoy.filters.network.tcp_proxy", message, stat_prefix=name, **{"idle_timeout": _NEVER, **more})
