"""Words of the manifest's JSON Schema: how Go's types look in it.

`null` counts as absent wherever a field may be absent, so optional fields allow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from coordinator.manifest.fields import UINT64_MAX

Schema: TypeAlias = dict[str, Any]

OBJECT_IDENTIFIER_ARC = 2**63 - 1  # Go's int


def text(description: str, *, pattern: str = "", **more: Any) -> Schema:
    """A string."""
    return {"description": description, "type": "string", **({"pattern": pattern} if pattern else {}), **more}


def choice(description: str, words: Iterable[str], *, any_case: bool = False) -> Schema:
    """One of some words. In any case: as a pattern, which shows the usual spelling as examples."""
    listed = list(words)
    if any_case:
        return text(description, pattern=f"^({'|'.join(_any_case(word) for word in listed)})$", examples=listed)
    return {"description": description, "enum": listed}


def whole(description: str, *, minimum: int = 0, maximum: int = UINT64_MAX) -> Schema:
    """A whole number, written without fraction and exponent."""
    return {"description": description, "type": "integer", "minimum": minimum, "maximum": maximum}


def truth(description: str) -> Schema:
    """`true` or `false`."""
    return {"description": description, "type": "boolean"}


def octets(description: str) -> Schema:
    """Bytes: base64, or a list of numbers."""
    return {
        "description": f"{description} In base64, or as a list of numbers from 0 to 255.",
        "anyOf": [
            {"type": "string", "contentEncoding": "base64", "pattern": r"^[A-Za-z0-9+/=\r\n]*$"},
            {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
        ],
    }


def listed(description: str, items: Schema, **more: Any) -> Schema:
    """A list."""
    return {"description": description, "type": "array", "items": items, **more}


def named(description: str, entries: Schema, **more: Any) -> Schema:
    """An object whose keys are names that the author of the manifest chooses."""
    return {"description": description, "type": "object", "additionalProperties": entries, **more}


def record(
    description: str, optional: Mapping[str, Schema], *, required: Mapping[str, Schema] | None = None, **more: Any
) -> Schema:
    """An object with fixed keys."""
    must = required or {}
    return {
        "description": description,
        "type": "object",
        "properties": {**must, **{name: _or_null(schema) for name, schema in optional.items()}},
        **({"required": list(must)} if must else {}),
        "additionalProperties": False,
        **more,
    }


def when(condition: Schema, consequence: Schema, *, required: Iterable[str] = ()) -> Schema:
    """A rule between the fields of an object; what the condition is about must be there."""
    then: Schema = {"properties": consequence}
    if names := list(required):
        then["required"] = names
    return {"if": {"properties": condition, "required": list(condition)}, "then": then}


def object_identifier(description: str) -> Schema:
    """An object identifier as Go writes it."""
    return listed(description, whole("", maximum=OBJECT_IDENTIFIER_ARC) | {"description": "An arc."}, minItems=2)


def _or_null(schema: Schema) -> Schema:
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}


def _any_case(word: str) -> str:
    return "".join(f"[{letter.upper()}{letter.lower()}]" if letter.isalpha() else letter for letter in word)
