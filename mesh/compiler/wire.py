"""The forms that all of Envoy's configuration is made of."""

from __future__ import annotations

from typing import Any

from mesh.compiler.layout import Address

Json = dict[str, Any]

_PACKAGE = "type.googleapis.com/envoy."


def typed(message: str, /, **fields: Any) -> Json:
    """A message with its type; `message` is its full name without `envoy.`."""
    return {"@type": _PACKAGE + message, **fields}


def extension(name: str, message: str, /, **fields: Any) -> Json:
    """A filter, logger or transport socket: its configuration under its name."""
    return {"name": name, "typed_config": typed(message, **fields)}


def socket(address: Address) -> Json:
    """A TCP address."""
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def file_source(path: str) -> Json:
    """A resource in a file, with a folder in its path. Envoy reads it again when another is renamed into its place."""
    return {"path_config_source": {"path": path if "/" in path else f"./{path}"}, "resource_api_version": "V3"}


def regex(text: str) -> Json:
    """A string that matches this pattern of RE2 as a whole."""
    return {"safe_regex": {"regex": text or "()"}}  # Envoy takes no empty one
