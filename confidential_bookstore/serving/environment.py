"""Typed reading of environment variables. Wrong or missing values are `ConfigurationError`s that name the variable.

Values of secrets never appear in an error.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.tls import split_address
from confidential_bookstore.secret import Secret


@dataclass(frozen=True, slots=True, repr=False)
class Environment:
    """The environment of one service. An empty variable counts as missing."""

    variables: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        """The variable; the default if it is missing.

        Raises:
            ConfigurationError: it is missing and there is no default.
        """
        value = self.variables.get(name) or default
        if value is None:
            raise ConfigurationError(
                f"environment variable {name} is missing",
                hint="set it in the manifest's Env, or list it in enclave.json and set it on the host",
            )
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        value = self.variables.get(name) or str(default)
        if not re.fullmatch(r"[0-9]{1,18}", value) or not least <= int(value) <= most:
            raise ConfigurationError(
                f"environment variable {name} is wrong",
                got=repr(value),
                expected=f"a whole number from {least} to {most}",
            )
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        """A duration in seconds, zero or more."""
        value = self.variables.get(name) or str(default)
        try:
            duration = float(value)
        except ValueError:
            duration = math.nan
        if not 0 <= duration <= 86_400:
            raise ConfigurationError(
                f"environment variable {name} is wrong", got=repr(value), expected="seconds, from 0 to 86400"
            )
        return duration

    def address(self, name: str, default: str | None = None) -> str:
        """`host:port`, an IPv6 host in brackets."""
        value = self.text(name, default)
        try:
            split_address(value)
        except ConfigurationError as error:
            message = f"environment variable {name} is wrong"
            raise ConfigurationError(message, got=error.got, expected=error.expected) from None
        return value

    def folder(self, name: str) -> Path:
        """A folder that exists and can be written."""
        path = Path(self.text(name))
        if not path.is_dir() or not os.access(path, os.W_OK):
            raise ConfigurationError(
                f"environment variable {name} is wrong", got=repr(str(path)), expected="a folder that can be written"
            )
        return path

    def key(self, name: str) -> Secret[bytes]:
        """A 32-byte key, written as 64 hex digits. Keys have no default: they come from the coordinator."""
        value = self.text(name)
        if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
            raise ConfigurationError(
                f"environment variable {name} is wrong",
                got=f"{len(value)} characters",
                expected="64 hex digits",
                hint="make it a symmetric-key secret of 256 bits in the manifest, given as {{ hex .Secrets.NAME }}",
            )
        return Secret(bytes.fromhex(value))
