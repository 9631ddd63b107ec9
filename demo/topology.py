"""Who runs where, and with which host environment: the port table of the demo, as values.

Each service has its own loopback address, so that every one of them listens on the same port as in a cluster. The pages
for people share one address and have the ports of the original demo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MESH_PORT, CLIENT_PORT, EVENTS_PORT = 2001, 4433, 9944
SERVICE_PORT = 14001
PCCS_PORT = 8081
PAGES = {"bookbuyer": 8080, "bookthief": 8083, "bookstore": 8084, "bookwarehouse": 8085}
MARBLES = ("bookwarehouse", "bookstore", "bookbuyer")
ENCLAVES = ("coordinator", *MARBLES, "bookthief")
_HOST_NUMBER = {"coordinator": 10, "bookwarehouse": 11, "bookstore": 12, "bookbuyer": 13, "bookthief": 14}


@dataclass(frozen=True, slots=True)
class Topology:
    """Addresses below one /24 of the loopback network.

    Attributes:
        network: the first three numbers of every address, for example `127.0.0`.
        state: folder below which each service keeps its own folder.
        settings: further host environment, by service name.
    """

    network: str
    state: Path
    settings: Mapping[str, Mapping[str, str]]

    def host(self, service: str) -> str:
        """The service's own address."""
        return f"{self.network}.{_HOST_NUMBER[service]}"

    def address(self, service: str) -> str:
        """Where a service's gRPC listens."""
        return f"{self.host(service)}:{SERVICE_PORT}"

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

    def listening(self) -> list[tuple[str, int]]:
        """Every address that the system takes."""
        coordinator = [(self.host("coordinator"), port) for port in (PCCS_PORT, MESH_PORT, CLIENT_PORT, EVENTS_PORT)]
        services = [(self.host(name), SERVICE_PORT) for name in PAGES]
        return coordinator + services + [(f"{self.network}.1", port) for port in PAGES.values()]

    def environment(self, service: str) -> dict[str, str]:
        """What the host hands to the service's enclave; the enclave takes only what its `enclave.json` lists."""
        folder = self.state / service
        common = {"CBS_PCCS_URL": self.pccs_url, "EDG_LOG_FORMAT": "json"}
        if service == "coordinator":
            own = {
                "EDG_COORDINATOR_MESH_ADDR": f"{self.host(service)}:{MESH_PORT}",
                "EDG_COORDINATOR_CLIENT_ADDR": self.client_address,
                "EDG_COORDINATOR_PROMETHEUS_ADDR": f"{self.host(service)}:{EVENTS_PORT}",
                "EDG_COORDINATOR_DNS_NAMES": f"localhost,coordinator,{self.host(service)}",
                "EDG_COORDINATOR_SEAL_DIR": str(folder),
            }
        else:
            own = {
                "EDG_MARBLE_TYPE": service,
                "EDG_MARBLE_COORDINATOR_ADDR": f"{self.host('coordinator')}:{MESH_PORT}",
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
            case "bookstore":
                return {"CBS_BOOKWAREHOUSE_ADDR": self.address("bookwarehouse")}
            case "bookbuyer" | "bookthief":
                return {"CBS_BOOKSTORE_ADDR": self.address("bookstore")}
            case _:
                return {}
