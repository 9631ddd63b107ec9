"""Mutual TLS between sidecars, and where a sidecar's certificate comes from.

Secrets are read by SDS from files beside the configuration, so a renewed certificate closes no connection. Sessions are
never resumed: each connection shows its certificate and is judged by it.
"""

from __future__ import annotations

from confidential_bookstore.policy.smi.model import Account, Service
from mesh.compiler import names
from mesh.compiler.wire import Json, extension, file_source

IDENTITY_FILE = "sds-identity.json"
AUTHORITY_FILE = "sds-authority.json"

_PACKAGE = "extensions.transport_sockets.tls.v3"
_VERSION = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}


def server(service: Service, only: Account | None = None) -> Json:
    """A client certificate of the mesh is required, of anybody or of one account only."""
    return extension(
        "envoy.transport_sockets.tls",
        f"{_PACKAGE}.DownstreamTlsContext",
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context={**_own(service), **_trusted(service, only)},
    )


def client(caller: Service, called: Service) -> Json:
    """The server has to be exactly the account of the called service."""
    return extension(
        "envoy.transport_sockets.tls",
        f"{_PACKAGE}.UpstreamTlsContext",
        sni=called.host,
        max_session_keys=0,
        common_tls_context={
            **_own(caller),
            "alpn_protocols": [names.account_alpn(caller.account), names.MESH_ALPN],
            **_trusted(caller, called.account),
        },
    )


def _own(service: Service) -> Json:
    identity = {"name": names.identity(service.key), "sds_config": file_source(IDENTITY_FILE)}
    return {"tls_params": _VERSION, "tls_certificate_sds_secret_configs": [identity]}


def _trusted(service: Service, only: Account | None) -> Json:
    authority = {"name": names.authority(service.key), "sds_config": file_source(AUTHORITY_FILE)}
    if only is None:
        return {"validation_context_sds_secret_config": authority}
    exact = {"san_type": "DNS", "matcher": {"exact": only.principal}}
    return {
        "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [exact]},
            "validation_context_sds_secret_config": authority,
        }
    }
