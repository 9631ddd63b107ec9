"""Where things listen on this machine: the part of the mesh that no policy speaks of.

Without iptables a sidecar takes nothing over from its application: each address is written down, and the application is
told to call its own sidecar. Every service has one sidecar, known by the service's key. The form of `layout.json`:

    {"services": {"bookstore/bookstore": {"application": "127.0.0.12:14001", "inbound": "127.0.0.12:15003",
                                          "outbound": {"bookwarehouse/bookwarehouse": "127.0.0.12:16011"}}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.smi.model import Service

_FIELDS = frozenset({"application", "inbound", "outbound"})


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: object, where: str = "") -> Address:
        """From `127.0.0.1:80` or `[::1]:80`.

        Raises:
            ConfigurationError: it is not that; names `where`.
        """
        host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            ip_address(host)
            number = int(port) if port.isascii() and port.isdigit() else 0
        except ValueError:
            number = 0
        if not 0 < number < 65536:
            raise ConfigurationError(f"{where}: no address", got=repr(text), expected="an IP address and a port")
        return cls(host, number)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one service and its sidecar listen.

    Attributes:
        application: where the application itself takes calls.
        inbound: where its sidecar takes calls for it, from other sidecars; None if nobody calls it.
        outbound: by service key: where its sidecar takes this application's calls to that service.
    """

    service: Service
    application: Address
    inbound: Address | None = None
    outbound: Mapping[str, Address] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layout:
    """The placements, by service key."""

    services: Mapping[str, Placement]

    def inbound(self, service: Service) -> tuple[Service, Address]:
        """Who answers for a service, and where.

        A service without a place of its own is another name of the one that runs as the same account and has the same
        port and protocol, as two Services of Kubernetes may select the same pods.

        Raises:
            ConfigurationError: nobody does, or it is not clear who.
        """
        own = self.services.get(service.key)
        alike = [own] if own else [each for each in self.services.values() if _same_program(each.service, service)]
        found = [(each.service, each.inbound) for each in alike if each.inbound]
        if len(found) != 1:
            raise ConfigurationError(
                f"the layout does not say where service {service.key} takes calls",
                got=", ".join(each.key for each, _ in found) or "nothing",
                expected="one inbound address",
            )
        return found[0]


def read_layout(text: str | bytes, services: Mapping[str, Service]) -> Layout:
    """Read the text of a `layout.json`; `services` are those of the policy's registry, by key.

    Raises:
        ConfigurationError: it has another form, names a service that is not registered, or two things would listen on
            one address.
    """
    try:
        written = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"the layout is no JSON: {error}") from None
    if not isinstance(written, dict) or written.keys() != {"services"} or not isinstance(written["services"], dict):
        raise ConfigurationError("the layout has another form", expected='{"services": {"namespace/name": {...}}}')
    placements = {key: _placement(key, value, services) for key, value in sorted(written["services"].items())}
    for key, placement in placements.items():
        for called in placement.outbound:
            if called not in placements or placements[called].inbound is None:
                raise ConfigurationError(f"service {key} calls {called}, which has no inbound address in the layout")
    _check_distinct(placements)
    return Layout(placements)


def _same_program(one: Service, other: Service) -> bool:
    return (one.account, one.port, one.seen_as) == (other.account, other.port, other.seen_as)


def _placement(key: str, value: Any, services: Mapping[str, Service]) -> Placement:
    if key not in services:
        raise ConfigurationError(f"service {key} of the layout is not registered", hint="add a MeshService document")
    if not isinstance(value, dict) or not value.keys() <= _FIELDS or "application" not in value:
        raise ConfigurationError(f"service {key} of the layout has another form", expected=", ".join(sorted(_FIELDS)))
    outbound = value.get("outbound", {})
    if not isinstance(outbound, dict):
        raise ConfigurationError(f"service {key} of the layout: outbound is no object")
    return Placement(
        services[key],
        Address.parse(value["application"], f"{key}: application"),
        Address.parse(value["inbound"], f"{key}: inbound") if "inbound" in value else None,
        {called: Address.parse(each, f"{key}: outbound {called}") for called, each in sorted(outbound.items())},
    )


def _check_distinct(placements: Mapping[str, Placement]) -> None:
    taken: dict[Address, str] = {}
    for key, placement in placements.items():
        places = [("application", placement.application), ("inbound", placement.inbound)]
        for what, address in [*places, *((f"outbound {called}", each) for called, each in placement.outbound.items())]:
            if address is not None and taken.setdefault(address, f"{key}: {what}") != f"{key}: {what}":
                raise ConfigurationError(f"two things on {address}: {taken[address]} and {key}: {what}")
