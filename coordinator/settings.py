"""What an operator may set. Only variables listed in `enclave.json` reach the coordinator."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.pki.names import DEFAULT_TRUST_DOMAIN

Address = tuple[str, int]
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
_LONGEST_LEAF_LIFETIME = 30 * 24 * 3600  # seconds; the host sets it, and a leaf cannot be revoked


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorSettings:
    """Settings of one coordinator.

    Attributes:
        mesh_address: host and port of the Marble API; an empty host means every interface.
        client_address: of the client API.
        status_address: of metrics and events, plain HTTP; None turns them off.
        dns_names: under which clients reach the coordinator; fixed once there is a root certificate.
        ip_addresses: likewise; loopback is always included.
        seal_directory: holds the sealed state.
        log_format: "json" or "text".
        pccs_url: where collateral comes from,
        collateral_directory: or this.
        leaf_lifetime: of marble certificates.
        trust_domain: in the names of marbles.
    """

    seal_directory: Path
    mesh_address: Address = ("", 2001)
    client_address: Address = ("", 4433)
    status_address: Address | None = None
    dns_names: tuple[str, ...] = ("localhost",)
    ip_addresses: tuple[IpAddress, ...] = ()
    log_format: str = "text"
    pccs_url: str = ""
    collateral_directory: Path | None = None
    leaf_lifetime: dt.timedelta = dt.timedelta(days=1)
    trust_domain: str = DEFAULT_TRUST_DOMAIN

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> CoordinatorSettings:
        """From environment variables; empty ones count as unset.

        Raises:
            ConfigurationError: naming the variable, what it says and what it may say.
        """
        pccs_url, collateral = environ.get("CBS_PCCS_URL", ""), environ.get("CBS_COLLATERAL_DIR", "")
        if bool(pccs_url) == bool(collateral):
            raise ConfigurationError(
                "collateral must come from one place",
                got=f"CBS_PCCS_URL={pccs_url!r} and CBS_COLLATERAL_DIR={collateral!r}",
                expected="exactly one of them",
            )
        names, addresses = _names(environ.get("EDG_COORDINATOR_DNS_NAMES") or "localhost")
        status = environ.get("EDG_COORDINATOR_PROMETHEUS_ADDR", "")
        return cls(
            seal_directory=Path(environ.get("EDG_COORDINATOR_SEAL_DIR") or "marblerun-coordinator-data").absolute(),
            mesh_address=_address("EDG_COORDINATOR_MESH_ADDR", environ.get("EDG_COORDINATOR_MESH_ADDR") or ":2001"),
            client_address=_address(
                "EDG_COORDINATOR_CLIENT_ADDR", environ.get("EDG_COORDINATOR_CLIENT_ADDR") or ":4433"
            ),
            status_address=_address("EDG_COORDINATOR_PROMETHEUS_ADDR", status) if status else None,
            dns_names=names,
            ip_addresses=addresses,
            log_format=environ.get("EDG_LOG_FORMAT") or "text",
            pccs_url=pccs_url,
            collateral_directory=Path(collateral) if collateral else None,
            leaf_lifetime=_lifetime(environ.get("CBS_LEAF_LIFETIME") or "86400"),
            trust_domain=_trust_domain(environ.get("CBS_TRUST_DOMAIN") or DEFAULT_TRUST_DOMAIN),
        )


def _address(variable: str, text: str) -> Address:
    """`host:port`, `[v6]:port` or `:port`."""
    host, separator, port = text.rpartition(":")
    if not separator or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ConfigurationError(f"{variable} is not an address", got=repr(text), expected="host:port or :port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigurationError(f"{variable} is not an address", got=repr(text), expected="[IPv6 address]:port")
    return host, int(port)


def _names(text: str) -> tuple[tuple[str, ...], tuple[IpAddress, ...]]:
    names: list[str] = []
    addresses: list[IpAddress] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        try:
            addresses.append(ipaddress.ip_address(item))
        except ValueError:
            if not _DNS_NAME.fullmatch(item):
                raise ConfigurationError(
                    "EDG_COORDINATOR_DNS_NAMES is wrong", got=repr(item), expected="host names, separated by commas"
                ) from None
            names.append(item)
    return tuple(names), tuple(addresses)


def _lifetime(text: str) -> dt.timedelta:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= _LONGEST_LEAF_LIFETIME:
        raise ConfigurationError(
            "CBS_LEAF_LIFETIME is wrong", got=repr(text), expected=f"seconds, from 1 to {_LONGEST_LEAF_LIFETIME}"
        )
    return dt.timedelta(seconds=int(text))


def _trust_domain(text: str) -> str:
    if not _DNS_NAME.fullmatch(text) or text != text.lower():
        raise ConfigurationError("CBS_TRUST_DOMAIN is wrong", got=repr(text), expected="a DNS name in lower case")
    return text
