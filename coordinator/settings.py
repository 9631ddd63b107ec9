"""What an operator may set, with MarbleRun's names (EDG_*) and our own (CBS_*).

Only variables listed in `enclave.json` reach a coordinator in an enclave. `OE_SIMULATION` is not among them: a host can
never turn the verification of quotes off.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.pki.names import DEFAULT_TRUST_DOMAIN

Address = tuple[str, int]
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_DNS_NAME = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*"
)
_LEVELS = {"error": "error", "warn": "warning", "info": "info", "debug": "debug"}  # MarbleRun's names and our own
_LONGEST_LEAF_LIFETIME = 30 * 24 * 3600  # seconds; the host sets it, and a leaf cannot be revoked


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedStateSettings:
    """Of a coordinator that shares its state with others.

    Attributes:
        store: "directory" (the seal directory, on a file system that all of them have), or a URL for SQLAlchemy.
        key_address: where others can ask for the key of the state.
        peers: names or addresses of other coordinators, all with the same ports as this one; they are asked in this
            order, and not all of them have to be there. A name may stand for several of them.
    """

    store: str = field(default="directory", repr=False)  # a URL may hold a password
    key_address: Address = ("", 5433)
    peers: tuple[str, ...] = ()


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
        log_level: "info" or "debug".
        tls_error_level: at which failed TLS handshakes are logged, "debug", "info", "warning" or "error".
        startup_manifest: is set at the start; it must be the first one.
        pccs_url: where collateral comes from,
        collateral_directory: or this.
        leaf_lifetime: of marble certificates.
        trust_domain: in the names of marbles.
        tolerant: unknown keys in a manifest are warnings.
        interoperability: outside an enclave only: no quotes, neither of marbles nor of its own.
    """

    seal_directory: Path
    mesh_address: Address = ("", 2001)
    client_address: Address = ("", 4433)
    status_address: Address | None = None
    dns_names: tuple[str, ...] = ("localhost",)
    ip_addresses: tuple[IpAddress, ...] = ()
    log_format: str = "text"
    log_level: str = "info"
    tls_error_level: str = "error"
    startup_manifest: Path | None = None
    pccs_url: str = ""
    collateral_directory: Path | None = None
    leaf_lifetime: dt.timedelta = dt.timedelta(days=1)
    trust_domain: str = DEFAULT_TRUST_DOMAIN
    tolerant: bool = False
    interoperability: bool = False
    shared: SharedStateSettings | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> CoordinatorSettings:
        """From environment variables; empty ones count as unset.

        Raises:
            ConfigurationError: naming the variable, what it says and what it may say.
        """
        read = _Variables(environ)
        interoperability = read.switch("OE_SIMULATION")
        pccs_url, collateral = read.text("CBS_PCCS_URL"), read.path("CBS_COLLATERAL_DIR")
        if not interoperability and bool(pccs_url) == bool(collateral):
            raise ConfigurationError(
                "collateral must come from one place",
                got=f"CBS_PCCS_URL={pccs_url!r} and CBS_COLLATERAL_DIR={str(collateral or '')!r}",
                expected="exactly one of them",
            )
        names, addresses = _names(read.text("EDG_COORDINATOR_DNS_NAMES", "localhost"))
        developer = read.switch("EDG_COORDINATOR_DEV_MODE")
        seal_directory = read.text("EDG_COORDINATOR_SEAL_DIR", "marblerun-coordinator-data")
        return cls(
            seal_directory=Path(read.text("EDG_CWD", "."), seal_directory).absolute(),
            mesh_address=read.address("EDG_COORDINATOR_MESH_ADDR", ":2001"),
            client_address=read.address("EDG_COORDINATOR_CLIENT_ADDR", ":4433"),
            status_address=read.optional_address("EDG_COORDINATOR_PROMETHEUS_ADDR"),
            dns_names=names,
            ip_addresses=addresses,
            log_format="text" if developer else read.choice("EDG_LOG_FORMAT", ("text", "json")),
            log_level="debug" if developer or read.switch("EDG_DEBUG_LOGGING") else "info",
            tls_error_level=_LEVELS[read.choice("EDG_HTTP_ERROR_LOG_LEVEL", tuple(_LEVELS))],
            startup_manifest=read.path("EDG_STARTUP_MANIFEST"),
            pccs_url=pccs_url,
            collateral_directory=collateral,
            leaf_lifetime=_lifetime(read.text("CBS_LEAF_LIFETIME", "86400")),
            trust_domain=_trust_domain(read.text("CBS_TRUST_DOMAIN", DEFAULT_TRUST_DOMAIN)),
            tolerant=read.switch("CBS_TOLERATE_UNKNOWN_KEYS"),
            interoperability=interoperability,
            shared=_shared(read),
        )


@dataclass(frozen=True, slots=True)
class _Variables:
    """Environment variables; empty ones count as unset."""

    environ: Mapping[str, str]

    def text(self, name: str, default: str = "") -> str:
        return self.environ.get(name) or default

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return Path(value) if value else None

    def switch(self, name: str) -> bool:
        value = self.text(name, "0")
        if value not in ("0", "1"):
            raise ConfigurationError(f"{name} is wrong", got=repr(value), expected="0 or 1")
        return value == "1"

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, choices[0])
        if value not in choices:
            raise ConfigurationError(f"{name} is wrong", got=repr(value), expected=" or ".join(choices))
        return value

    def address(self, name: str, default: str) -> Address:
        return _address(name, self.text(name, default))

    def optional_address(self, name: str) -> Address | None:
        value = self.text(name)
        return _address(name, value) if value else None


def _shared(read: _Variables) -> SharedStateSettings | None:
    if not read.switch("EDG_DISTRIBUTED_COORDINATOR"):
        return None
    peers = tuple(filter(None, (part.strip() for part in read.text("CBS_COORDINATOR_PEERS").split(","))))
    return SharedStateSettings(
        store=read.text("EDG_STORE_BACKEND", "directory"),
        key_address=read.address("CBS_COORDINATOR_KEY_ADDR", ":5433"),
        peers=peers,
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
