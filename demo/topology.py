"""Who runs where, and with which host environment: the port table of the demo, as values.

Each service has its own loopback address, so that every one of them listens on the same port as in a cluster. The pages
for people share one address and have the ports of the original demo. With sidecars, a service calls the others at an
address of its own, where its sidecar listens; there is no iptables on this machine that would lead it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MESH_PORT, CLIENT_PORT, EVENTS_PORT = 2001, 4433, 9944
SERVICE_PORT = 14001
PCCS_PORT = 8081
SIDECAR_PORT = 15003  # where a sidecar takes calls for its service
_OUTBOUND_PORT = 16000  # plus the number of the other one's host: where a sidecar takes its service's own calls
PAGES = {"bookbuyer": 8080, "bookstore-v2": 8082, "bookthief": 8083, "bookstore": 8084, "bookwarehouse": 8085}
MARBLES = ("bookwarehouse", "bookstore", "bookstore-v2", "bookbuyer")
SERVICES = (*MARBLES, "bookthief")
ENCLAVES = ("coordinator", "bookwarehouse", "bookstore", "bookbuyer", "bookthief")
_HOST_NUMBER = {
    "coordinator": 10,
    "bookwarehouse": 11,
    "bookstore": 12,
    "bookbuyer": 13,
    "bookthief": 14,
    "bookstore-v2": 15,
}
_NAMESPACE = {"coordinator": "marblerun", "bookstore-v2": "bookstore"}  # the others have one of their own name


def image_of(service: str) -> str:
    """Which program a service is: both stores are the same."""
    return "bookstore" if service == "bookstore-v2" else service


def key_of(service: str) -> str:
    """Its name in the mesh, `namespace/name`."""
    return f"{_NAMESPACE.get(service, service)}/{service}"


@dataclass(frozen=True, slots=True)
class Topology:
    """Addresses below one /24 of the loopback network.

    Attributes:
        network: the first three numbers of every address, for example `127.0.0`.
        state: folder below which each service keeps its own folder.
        settings: further host environment, by service name.
        sidecars: whether services reach each other through theirs.
    """

    network: str
    state: Path
    settings: Mapping[str, Mapping[str, str]]
    sidecars: bool = False

    def host(self, service: str) -> str:
        """The service's own address."""
        return f"{self.network}.{_HOST_NUMBER[service]}"

    def address(self, service: str) -> str:
        """Where a service itself listens: its gRPC, or the coordinator for marbles."""
        return f"{self.host(service)}:{MESH_PORT if service == 'coordinator' else SERVICE_PORT}"

    def outbound(self, service: str, other: str) -> str:
        """Where the sidecar of `service` takes its calls to `other`."""
        return f"{self.host(service)}:{_OUTBOUND_PORT + _HOST_NUMBER[other]}"

    def seen_from(self, service: str, other: str) -> str:
        """Where `service` is told that `other` is."""
        return self.outbound(service, other) if self.sidecars else self.address(other)

    @property
    def pccs_url(self) -> str:
        """Where the platform's collateral is served."""
        return f"http://{self.host('coordinator')}:{PCCS_PORT}"

    @property
    def client_address(self) -> str:
        """The coordinator's client API."""
        return f"{self.host('coordinator')}:{CLIENT_PORT}"

    @property
    def events_url(self) -> str:
        """The coordinator's plain listener with events and metrics."""
        return f"http://{self.host('coordinator')}:{EVENTS_PORT}"

    def page_url(self, service: str) -> str:
        """The page for people."""
        return f"http://{self.network}.1:{PAGES[service]}"

    def listening(self, *, coordinator: bool = True) -> list[tuple[str, int]]:
        """Every address that is taken, with or without a coordinator."""
        taken = [(self.host(name), SERVICE_PORT) for name in PAGES]
        taken += [(f"{self.network}.1", port) for port in PAGES.values()]
        if coordinator:
            taken += [(self.host("coordinator"), port) for port in (PCCS_PORT, MESH_PORT, CLIENT_PORT, EVENTS_PORT)]
        if self.sidecars:
            for name, others in _with_sidecars(coordinator=coordinator).items():
                taken.append((self.host(name), SIDECAR_PORT))
                taken += [(self.host(name), _OUTBOUND_PORT + _HOST_NUMBER[other]) for other in others]
        return taken

    def layout(self, *, coordinator: bool = True) -> dict[str, Any]:
        """Where the sidecars listen, in the form of the mesh's `layout.json`."""
        placements = {
            key_of(name): {
                "application": self.address(name),
                "inbound": f"{self.host(name)}:{SIDECAR_PORT}",
                "outbound": {key_of(other): self.outbound(name, other) for other in others},
            }
            for name, others in _with_sidecars(coordinator=coordinator).items()
        }
        return {"services": placements}

    def environment(self, service: str) -> dict[str, str]:
        """What the host hands to the service's enclave; the enclave takes only what its `enclave.json` lists."""
        folder = self.state / service
        common = {"CBS_PCCS_URL": self.pccs_url, "EDG_LOG_FORMAT": "json"}
        if service == "coordinator":
            own = {
                "EDG_COORDINATOR_MESH_ADDR": self.address(service),
                "EDG_COORDINATOR_CLIENT_ADDR": self.client_address,
                "EDG_COORDINATOR_PROMETHEUS_ADDR": f"{self.host(service)}:{EVENTS_PORT}",
                "EDG_COORDINATOR_DNS_NAMES": f"localhost,coordinator,{self.host(service)}",
                "EDG_COORDINATOR_SEAL_DIR": str(folder),
            }
        else:
            own = {
                "EDG_MARBLE_TYPE": service,
                "EDG_MARBLE_COORDINATOR_ADDR": self.seen_from(service, "coordinator"),
                "CBS_COORDINATOR_CLIENT_ADDR": self.client_address,
                "EDG_MARBLE_DNS_NAMES": f"{service},{self.host(service)}",
                "EDG_MARBLE_UUID_FILE": str(folder / "uuid"),
                "CBS_DATA_DIR": str(folder),
                "CBS_LISTEN_ADDR": self.address(service),
                "CBS_STATUS_ADDR": f"{self.network}.1:{PAGES[service]}",
            } | self._peers(service)
        return common | own | dict(self.settings.get(service, {}))

    def _peers(self, service: str) -> dict[str, str]:
        match service:
            case "bookstore" | "bookstore-v2":
                return {"CBS_BOOKWAREHOUSE_ADDR": self.seen_from(service, "bookwarehouse")}
            case "bookbuyer":
                return {
                    "CBS_BOOKSTORE_ADDR": self.seen_from(service, "bookstore"),
                    "CBS_BOOKSTORE_V2_ADDR": self.seen_from(service, "bookstore-v2"),
                }
            case "bookthief":
                return {"CBS_BOOKSTORE_ADDR": self.seen_from(service, "bookstore")}
            case _:
                return {}


def _with_sidecars(*, coordinator: bool) -> dict[str, tuple[str, ...]]:
    """Each service with a sidecar, and whom it may want to call, granted or not. The coordinator calls nobody."""
    names = (*SERVICES, "coordinator") if coordinator else SERVICES
    return {name: () if name == "coordinator" else tuple(other for other in names if other != name) for name in names}
