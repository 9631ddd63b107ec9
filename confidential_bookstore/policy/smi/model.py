"""What SMI documents say, as checked values: all names are resolved, all patterns are compiled.

Whoever holds a `Policy` may rely on it: a target has sources and rules, a rule's matches exist, a split's backends do.
Sources of the forms: the CRDs of smi-spec v0.6.0 (access v1alpha3, specs v1alpha4, split v1alpha2 to v1alpha4) and of
OSM v1.2 (MeshConfig).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from confidential_bookstore.policy.match import Match

TRUST_DOMAIN = "cluster.local"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something is written: file, line from 1, and the document, as `TrafficTarget bookstore/buyers`."""

    file: str
    line: int
    document: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.document}"


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """A service account: an identity of the mesh, written `name.namespace`."""

    name: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.name}.{self.namespace}"

    @property
    def principal(self) -> str:
        """The name in its certificate, `name.namespace.cluster.local`."""
        return f"{self}.{TRUST_DOMAIN}"


class Protocol(Enum):
    """What an application speaks, as in a Service's `appProtocol`."""

    GRPC = "grpc"
    HTTP = "http"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the mesh.

    Attributes:
        account: whom its processes run as. Policy is about accounts; several services may have the same.
        protocol: what the application speaks.
        marble: its marble type; empty if it is none.
        sealed: its traffic is attested TLS from end to end, so that a sidecar sees only bytes.
        grpc_services: full names, for example `confidential_bookstore.api.bookstore.v1.BookstoreService`.
    """

    name: str
    namespace: str
    account: Account
    port: int
    protocol: Protocol
    marble: str = ""
    sealed: bool = False
    grpc_services: tuple[str, ...] = ()
    origin: Origin = Origin("", 0, "")

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def host(self) -> str:
        """`name.namespace.svc.cluster.local`."""
        return f"{self.name}.{self.namespace}.svc.{TRUST_DOMAIN}"

    @property
    def seen_as(self) -> Protocol:
        """What a sidecar sees."""
        return Protocol.TCP if self.sealed else self.protocol


@dataclass(frozen=True, slots=True)
class HttpRule:
    """Grants HTTP requests that fit any of the matches."""

    group: str
    matches: tuple[Match, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class TcpRule:
    """Grants connections to these ports; an empty set means every port."""

    route: str
    ports: frozenset[int]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Target:
    """A TrafficTarget: any of the sources may do with the destination what any of the rules grants."""

    name: str  # namespace/name
    destination: Account
    sources: tuple[Account, ...]
    rules: tuple[HttpRule | TcpRule, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Backend:
    """A service (`namespace/name`) and its share, relative to the sum of all."""

    service: str
    weight: int


@dataclass(frozen=True, slots=True)
class Split:
    """A TrafficSplit: calls to `root` (`namespace/name`) go to the backends, by weight.

    `matches` (v1alpha4): only requests that fit any of them are split, the others go to the root itself; empty: all.
    """

    name: str
    root: str
    backends: tuple[Backend, ...]
    matches: tuple[Match, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class MeshConfig:
    """Of OSM. `permissive`: whoever is in the mesh may call everything. `egress`: what is no service is reachable."""

    permissive: bool = False
    egress: bool = False
    origin: Origin = Origin("", 0, "")


@dataclass(frozen=True, slots=True)
class Documents:
    """All that one folder of policy says, by `namespace/name`."""

    services: Mapping[str, Service]
    targets: Mapping[str, Target] = field(default_factory=dict)
    splits: Mapping[str, Split] = field(default_factory=dict)  # by root
    config: MeshConfig = MeshConfig()
