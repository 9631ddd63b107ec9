"""Manifest bytes into a tree of values that has lost nothing.

Strict where Go's decoder is lenient: duplicate keys are kept (as pairs) so that they can be refused with their path,
numbers keep the difference between `5` and `5.0`, and text must be UTF-8. Knows no section and no rule of a manifest.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from confidential_bookstore.errors import ManifestError

MAX_MANIFEST_SIZE = 1024 * 1024
MAX_NESTING = 32

# A string (also one that never ends, so that the scan stays linear) or a bracket.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Members:
    """A JSON object: keys and values in their order, duplicates included."""

    pairs: tuple[tuple[str, JsonValue], ...]


JsonValue: TypeAlias = "str | int | float | bool | list[JsonValue] | Members | None"


def parse_document(raw: bytes) -> JsonValue:
    """Parse JSON.

    Raises:
        ManifestError: too large, not UTF-8, not JSON (with line and column), or nested too deeply.
    """
    if len(raw) > MAX_MANIFEST_SIZE:
        raise ManifestError("manifest is too large", got=f"{len(raw)} bytes", expected=f"at most {MAX_MANIFEST_SIZE}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ManifestError("manifest is not UTF-8 text", got=f"a wrong byte at offset {error.start}") from None
    _check_nesting(text)
    try:
        value: JsonValue = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ManifestError(
            f"line {error.lineno}, column {error.colno}: manifest is not JSON: {_lower_first(error.msg)}"
        ) from None
    except ValueError:
        # Python refuses integers of several thousand digits.
        raise ManifestError("manifest has a number of too many digits") from None
    return value


def _check_nesting(text: str) -> None:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
        elif bracket in "]}":
            depth -= 1
        if depth > MAX_NESTING:
            raise ManifestError("manifest is nested too deeply", expected=f"at most {MAX_NESTING} levels")


def _members(pairs: list[tuple[str, JsonValue]]) -> Members:
    return Members(tuple(pairs))


def _refuse_constant(name: str) -> NoReturn:
    raise ManifestError("manifest has a value that JSON does not have", got=name)


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]
