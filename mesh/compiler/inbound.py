"""What a sidecar takes for its application, from other sidecars: mutual TLS, then the rules.

A service whose requests are seen has one filter chain, and its rules are in its route configuration. One of which only
bytes are seen has a chain for each account that may connect; taking a chain away closes that account's connections and
no others. Everybody else comes to the last chain, which lets nobody in and says who came.
"""

from __future__ import annotations

from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Account, Protocol, Service
from mesh.compiler import access_log, names, rbac, tls
from mesh.compiler.layout import Address
from mesh.compiler.listeners import connection_manager, listener, tcp_proxy
from mesh.compiler.wire import Json, extension

# Network RBAC is asked at a caller's first byte, but Envoy connects to the application at once, and what an application
# says first, as a database does, would reach a caller before that. So an account's chain takes no other's certificate,
# and where nobody is let in, the application is not connected to.
_AFTER_HANDSHAKE: Json = {"upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE", "idle_timeout": "0s"}
_AFTER_DATA: Json = {"upstream_connect_mode": "ON_DOWNSTREAM_DATA", "idle_timeout": "5s"}
_EARLY_BYTES = 16_384

_INSPECTOR = "extensions.filters.listener.tls_inspector.v3.TlsInspector"


def inbound(policy: Policy, service: Service, address: Address) -> Json:
    """The listener for calls to a service."""
    chains = _for_connections(policy, service) if service.seen_as is Protocol.TCP else [_for_requests(service)]
    inspector = extension("envoy.filters.listener.tls_inspector", _INSPECTOR)
    return listener(names.inbound(service), address, "INBOUND", chains, listener_filters=[inspector])


def may_connect(policy: Policy, service: Service) -> list[Account]:
    """The accounts that have a filter chain of their own: in permissive mode all that are known."""
    documents = policy.documents
    known = {each.account for each in documents.services.values()}
    known |= {source for each in documents.targets.values() for source in each.sources}
    return [each for each in sorted(known) if policy.allow(each, service.account, service.port).allowed]


def _for_requests(service: Service) -> Json:
    manager = connection_manager(
        names.inbound(service),
        rbac.http_filters(),
        # No spelling of a path goes round a rule; policy/smi/path.py does the same.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        use_remote_address=True,  # a caller's x-envoy- headers steer nothing here
        server_header_transformation="PASS_THROUGH",
        access_log=access_log.requests(service),
    )
    return _chain(service, names.MESH_ALPN, [manager])


def _for_connections(policy: Policy, service: Service) -> list[Json]:
    accounts = may_connect(policy, service)
    rest = rbac.connections_of_the_rest(policy)
    last = _of_bytes(service, _AFTER_HANDSHAKE if rest else _AFTER_DATA, rest)
    return [
        *(_of_bytes(service, _AFTER_HANDSHAKE, rbac.connections_of(each), each) for each in accounts),
        last,
    ]


def _of_bytes(service: Service, when: Json, policies: Json, only: Account | None = None) -> Json:
    name = names.inbound(service)
    proxy = tcp_proxy(
        name,
        cluster=names.application(service),
        access_log=access_log.connections(service),
        access_log_options={"flush_access_log_on_connected": True},
        max_early_data_bytes=_EARLY_BYTES,
        **when,
    )
    alpn = names.account_alpn(only) if only else names.MESH_ALPN
    return _chain(service, alpn, [rbac.network_filter(f"{name}.", policies), proxy], only)


def _chain(service: Service, alpn: str, filters: list[Json], only: Account | None = None) -> Json:
    return {
        "name": f"{names.inbound(service)}_{alpn}",
        "filter_chain_match": {
            "server_names": [service.host],
            "transport_protocol": "tls",
            "application_protocols": [alpn],
        },
        "transport_socket": tls.server(service, only),
        "filters": filters,
    }
