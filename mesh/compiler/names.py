"""Names in Envoy's configuration. They carry their sidecar, so that they are unique even in one process with all.

One name is used for a listener, its `stat_prefix` and its route configuration. Names of Kubernetes have no underscore,
so a name says unambiguously what it stands for.
"""

from __future__ import annotations

from confidential_bookstore.policy.smi.model import Account, Service


def inbound(service: Service) -> str:
    """`inbound_bookstore_bookstore`."""
    return f"inbound_{flat(service.key)}"


def outbound(caller: Service, called: Service) -> str:
    """`outbound_bookbuyer_bookbuyer_to_bookstore_bookstore`; also the cluster that this caller reaches it by."""
    return f"outbound_{flat(caller.key)}_to_{flat(called.key)}"


def application(service: Service) -> str:
    """The cluster of the application itself, behind its sidecar: `application_bookstore_bookstore`."""
    return f"application_{flat(service.key)}"


def identity(service_key: str) -> str:
    """The secret that holds a sidecar's own certificate and key."""
    return f"identity_{flat(service_key)}"


def authority(service_key: str) -> str:
    """The secret that holds the root that a sidecar trusts."""
    return f"authority_{flat(service_key)}"


MESH_ALPN = "osm"  # as in OSM: whoever offers it is a sidecar


def account_alpn(account: Account) -> str:
    """What a sidecar of this account offers besides "osm"; a hint, never a proof."""
    return f"{MESH_ALPN}/{account}"


def flat(service_key: str) -> str:
    """`bookstore_bookstore` for `bookstore/bookstore`."""
    return service_key.replace("/", "_")
