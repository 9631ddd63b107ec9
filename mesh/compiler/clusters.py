"""Where a sidecar sends what it takes: its own application, and other sidecars."""

from __future__ import annotations

from confidential_bookstore.policy.smi.model import Protocol, Service
from mesh.compiler import names, tls
from mesh.compiler.layout import Address
from mesh.compiler.wire import Json, socket, typed

_CONNECT_TIMEOUT = "2s"
_UNBOUNDED = ("max_connections", "max_pending_requests", "max_requests")  # who may call is policy; how much is not
_HTTP_OPTIONS = "extensions.upstreams.http.v3.HttpProtocolOptions"


def application(service: Service, address: Address) -> Json:
    """The application behind its sidecar, in clear: they are one machine."""
    return _cluster(names.application(service), service, address)


def sidecar_of(caller: Service, called: Service, address: Address) -> Json:
    """Another service's sidecar, by mutual TLS."""
    return {
        **_cluster(names.outbound(caller, called), called, address),
        "transport_socket": tls.client(caller, called),
    }


def _cluster(name: str, service: Service, address: Address) -> Json:
    return {
        **typed("config.cluster.v3.Cluster"),
        "name": name,
        "type": "STATIC",
        "connect_timeout": _CONNECT_TIMEOUT,
        "circuit_breakers": {"thresholds": [dict.fromkeys(_UNBOUNDED, 1_000_000)]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(address)}}]}],
        },
        **_protocol(service.seen_as),
    }


def _protocol(protocol: Protocol) -> Json:
    match protocol:
        case Protocol.TCP:
            return {}
        case Protocol.GRPC:
            options: Json = {"explicit_http_config": {"http2_protocol_options": {}}}
        case Protocol.HTTP:  # as the caller speaks it
            options = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
    return {"typed_extension_protocol_options": {f"envoy.{_HTTP_OPTIONS}": typed(_HTTP_OPTIONS, **options)}}
