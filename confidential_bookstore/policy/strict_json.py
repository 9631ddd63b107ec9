"""JSON of the manifest, read so that no two readers can understand two different things."""

from __future__ import annotations

import json
from typing import Any

from confidential_bookstore.errors import ConfigurationError


def read_strictly(text: str, what: str) -> Any:
    """The value that `text` stands for; `what` names it in errors, in the plural.

    Raises:
        ConfigurationError: not JSON, nested too deeply, or with a key that stands twice in an object.
    """
    try:
        return json.loads(text, object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{what} are not JSON: {error}") from None


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in an object")
    return found
