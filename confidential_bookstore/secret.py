"""A value that must not appear in logs, reprs, tracebacks or pickles."""

from __future__ import annotations

import hmac
from typing import Generic, NoReturn, TypeVar

T = TypeVar("T", str, bytes)


class Secret(Generic[T]):
    """Wraps a `str` or `bytes`; only `reveal()` gives it out."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value: T = value

    def reveal(self) -> T:
        """The value itself. Call it where the value is used, never earlier."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        mine, theirs = self._value, other._value
        return hmac.compare_digest(
            mine.encode() if isinstance(mine, str) else mine,
            theirs.encode() if isinstance(theirs, str) else theirs,
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")
