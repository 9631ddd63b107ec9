"""What a sidecar says of refused calls, and of connections, that came to it: one JSON line on its standard output.

A request is logged if its answer was 403 or PERMISSION_DENIED, whoever said so; what is let in costs no line. A
connection has up to two lines, told apart by `type`: `TcpUpstreamConnected` when it was let in, and `TcpConnectionEnd`,
which for one that was refused is the only line and says why in `details`. Where there is a `tls_failure`, the
certificate was not accepted, and `peer` is only what it claims.
"""

from __future__ import annotations

from confidential_bookstore.policy.smi.model import Service
from mesh.compiler.wire import Json, extension

_COMMON = {
    "time": "%START_TIME%",
    "type": "%ACCESS_LOG_TYPE%",
    "peer": "%DOWNSTREAM_PEER_DNS_SAN%",
    "flags": "%RESPONSE_FLAGS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
}
_REQUEST = {
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",  # a query may hold what is nobody's business
    "code": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
    "details": "%RESPONSE_CODE_DETAILS%",
}
_CONNECTION = {"details": "%CONNECTION_TERMINATION_DETAILS%"}


def requests(service: Service) -> list[Json]:
    """Of refused requests to a service, `kind` l7."""
    forbidden = {"op": "EQ", "value": {"default_value": 403, "runtime_key": "mesh.access_log.forbidden"}}
    either = [
        {"status_code_filter": {"comparison": forbidden}},
        {"grpc_status_filter": {"statuses": ["PERMISSION_DENIED"]}},
    ]
    [log] = _standard_output({"kind": "l7", "destination": service.key, **_COMMON, **_REQUEST})
    return [{**log, "filter": {"or_filter": {"filters": either}}}]


def connections(service: Service) -> list[Json]:
    """Of connections to a service, `kind` l4."""
    return _standard_output({"kind": "l4", "destination": service.key, **_COMMON, **_CONNECTION})


def _standard_output(fields: Json) -> list[Json]:
    message = "extensions.access_loggers.stream.v3.StdoutAccessLog"
    return [extension("envoy.access_loggers.stdout", message, log_format={"json_format": fields})]
