"""What a marble is told from outside: where things are, and what to ask for.

All of it comes from the host and is therefore only a hint: the worst a wrong value can do is that nothing works. What
must not be chosen by the host (the coordinator's package, the trust root) is measured with the image instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.tls import split_address

DEFAULT_CLIENT_API_PORT = 4433


@dataclass(frozen=True, slots=True, kw_only=True)
class MarbleSettings:
    """Settings of one marble; the names of the variables stand in `from_environ`.

    Addresses are `host:port`. Exactly one of `pccs_url` and `collateral_dir` is set, unless collateral is not needed.
    """

    marble_type: str
    coordinator_address: str = "localhost:2001"
    coordinator_client_address: str = "localhost:4433"
    dns_names: tuple[str, ...] = ("localhost",)
    uuid_file: Path = Path("uuid")
    pccs_url: str = ""
    collateral_dir: Path | None = None
    listen_address: str = "0.0.0.0:14001"
    status_address: str = "127.0.0.1:8080"
    data_dir: Path = Path()
    log_format: str = "text"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> MarbleSettings:
        """Reads the variables of MarbleRun (EDG_*) and our own (CBS_*).

        Raises:
            ConfigurationError: one is missing or malformed; the message names it.
        """
        marble_type = environ.get("EDG_MARBLE_TYPE", "")
        if not marble_type:
            raise ConfigurationError("environment variable not set: EDG_MARBLE_TYPE")
        coordinator = _address(environ, "EDG_MARBLE_COORDINATOR_ADDR", "localhost:2001")
        host = coordinator.rpartition(":")[0]
        data_dir = Path(environ.get("CBS_DATA_DIR") or environ.get("EDG_CWD") or ".")
        collateral_dir = environ.get("CBS_COLLATERAL_DIR")
        if collateral_dir and environ.get("CBS_PCCS_URL"):
            raise ConfigurationError("set one of CBS_PCCS_URL and CBS_COLLATERAL_DIR, not both")
        log_format = environ.get("EDG_LOG_FORMAT") or "text"
        if log_format not in ("json", "text"):
            raise ConfigurationError("EDG_LOG_FORMAT is not a format", got=repr(log_format), expected="json or text")
        names = environ.get("EDG_MARBLE_DNS_NAMES") or "localhost"
        return cls(
            marble_type=marble_type,
            coordinator_address=coordinator,
            coordinator_client_address=_address(
                environ, "CBS_COORDINATOR_CLIENT_ADDR", f"{host}:{DEFAULT_CLIENT_API_PORT}"
            ),
            dns_names=tuple(name.strip() for name in names.split(",") if name.strip()),
            uuid_file=Path(environ.get("EDG_MARBLE_UUID_FILE") or data_dir / "uuid"),
            pccs_url=environ.get("CBS_PCCS_URL", ""),
            collateral_dir=Path(collateral_dir) if collateral_dir else None,
            listen_address=_address(environ, "CBS_LISTEN_ADDR", "0.0.0.0:14001"),
            status_address=_address(environ, "CBS_STATUS_ADDR", "127.0.0.1:8080"),
            data_dir=data_dir,
            log_format=log_format,
        )


def _address(environ: Mapping[str, str], name: str, default: str) -> str:
    address = environ.get(name) or default
    try:
        split_address(address)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name} is not an address", got=error.got, expected=error.expected) from None
    return address
