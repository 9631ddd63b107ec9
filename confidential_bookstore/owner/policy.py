"""By what code a data owner knows the coordinator: a JSON file of the kind that MarbleRun calls an era configuration.

    {"SignerID": hex, "ProductID": 1, "SecurityVersion": 1}      or      {"UniqueID": hex}
    and, where wanted: "Debug", "AcceptedTCBStatuses", "AcceptedAdvisories", "RTMRs" (ours)

Keys are read without regard to case, as Go does. Unlike MarbleRun, a key that is not known is an error: a misspelt
"SecurityVersion" must not make the policy weaker. "Nonce" is ignored, nonces are fresh here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confidential_bookstore.attestation.package import Package
from confidential_bookstore.errors import ConfigurationError

_HEX = re.compile(r"([0-9a-fA-F]{2})*")
_KEYS = (
    "UniqueID", "SignerID", "ProductID", "SecurityVersion", "Debug",
    "AcceptedTCBStatuses", "AcceptedAdvisories", "RTMRs", "Nonce", "InsecureSkipVerify",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Policy:
    """`raw` is the file as it was read; it goes into evidence, so that others can judge by the same."""

    raw: bytes
    package: Package


def read_policy(raw: bytes, source: str = "policy") -> Policy:
    """Strict: what is not understood is refused. `source` is named in errors.

    Raises:
        ConfigurationError: not JSON, a key that is not known, a wrong type, or code that nobody named.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source} is not JSON", got=str(error)) from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{source} has the wrong type", got=type(document).__name__, expected="an object")
    fields = _fields(document, source)
    if fields.get("InsecureSkipVerify") not in (None, False):
        raise ConfigurationError(f"{source}: InsecureSkipVerify is not supported", hint="quotes are always verified")
    package = Package(
        unique_id=_hex(fields, "UniqueID", source),
        signer_id=_hex(fields, "SignerID", source),
        product_id=_number(fields, "ProductID", source),
        security_version=_number(fields, "SecurityVersion", source),
        debug=_flag(fields, "Debug", source),
        accepted_tcb_statuses=_texts(fields, "AcceptedTCBStatuses", source, Package().accepted_tcb_statuses),
        accepted_advisories=_texts(fields, "AcceptedAdvisories", source, ()),
        rtmrs=_texts(fields, "RTMRs", source, ()),
    )
    if package.underspecified:
        raise ConfigurationError(
            f"{source} accepts code that nobody named",
            expected="UniqueID, or SignerID with ProductID and SecurityVersion",
        )
    return Policy(raw, package)


def _fields(document: Mapping[str, Any], source: str) -> dict[str, Any]:
    names = {key.lower(): key for key in _KEYS}
    unknown = sorted(key for key in document if key.lower() not in names)
    if unknown:
        raise ConfigurationError(f"{source} has unknown keys", got=", ".join(unknown), expected=", ".join(_KEYS[:8]))
    if len({key.lower() for key in document}) < len(document):
        raise ConfigurationError(f"{source} has a key twice")
    return {names[key.lower()]: value for key, value in document.items()}


def _hex(fields: Mapping[str, Any], key: str, source: str) -> str:
    value = fields.get(key) or ""
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ConfigurationError(f"{source}: {key} is malformed", got=repr(value), expected="hex")
    return value.lower()


def _number(fields: Mapping[str, Any], key: str, source: str) -> int | None:
    value = fields.get(key)
    if value is not None and (type(value) is not int or value < 0):
        raise ConfigurationError(f"{source}: {key} is malformed", got=repr(value), expected="a number")
    return value


def _flag(fields: Mapping[str, Any], key: str, source: str) -> bool:
    value = fields.get(key) or False
    if type(value) is not bool:
        raise ConfigurationError(f"{source}: {key} is malformed", got=repr(value), expected="true or false")
    return value


def _texts(fields: Mapping[str, Any], key: str, source: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ConfigurationError(f"{source}: {key} is malformed", got=repr(value), expected="a list of strings")
    return tuple(value)
