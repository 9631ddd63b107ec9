"""How a caller shares its calls among marble types, as the manifest says: the traffic splits inside a marble.

The JSON form, in the environment variable MARBLE_TRAFFIC_SPLITS: weights by backend, by the type that is asked for.

    {"bookstore": {"bookstore": 50, "bookstore-v2": 50}}

`cbs manifest build` makes it from TrafficSplits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.strict_json import read_strictly

_EXAMPLE = '{"bookstore": {"bookstore": 50, "bookstore-v2": 50}}'
_LARGEST = 1_000_000


class TrafficSplits:
    """A fixed set of splits: weights from 0 by backend, by root."""

    __slots__ = ("_weights",)

    def __init__(self, weights: Mapping[str, Mapping[str, int]] | None = None) -> None:
        self._weights = {root: dict(backends) for root, backends in (weights or {}).items()}

    @classmethod
    def from_json(cls, text: str) -> TrafficSplits:
        """Reads the splits; an empty text means that there are none.

        Raises:
            ConfigurationError: not JSON, another shape, or weights that sum up to nothing.
        """
        if not text.strip():
            return cls()
        document = read_strictly(text, "traffic splits")
        if not isinstance(document, dict):
            raise ConfigurationError("traffic splits are no object", got=type(document).__name__, expected=_EXAMPLE)
        for root, backends in document.items():
            _check(root, backends)
        return cls(document)

    def to_json(self) -> str:
        """The text that `from_json` reads; the same splits give the same text."""
        return json.dumps(self._weights, sort_keys=True)

    def backends(self, root: str) -> Mapping[str, int]:
        """Weights by marble type for calls to `root`; a root that is not split goes to itself."""
        return self._weights.get(root) or {root: 1}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrafficSplits) and other.to_json() == self.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())


def _check(root: str, backends: Any) -> None:
    if not isinstance(backends, dict) or not root or not all(backends):
        raise ConfigurationError(f"traffic split of {root!r} has another form", got=repr(backends), expected=_EXAMPLE)
    for name, weight in backends.items():
        if type(weight) is not int or not 0 <= weight <= _LARGEST:  # not isinstance: true is an int in Python
            raise ConfigurationError(
                f"traffic split of {root} has another weight for {name}", got=repr(weight), expected=f"0 to {_LARGEST}"
            )
    if not sum(backends.values()):
        raise ConfigurationError(f"traffic split of {root} goes nowhere", expected="a weight above 0")
