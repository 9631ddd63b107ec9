"""The variables of a running template. They are found in constant time, however many there are."""

from __future__ import annotations

from coordinator.manifest.template.values import Value


class Scope:
    """A stack of variables, as Go has one per running template: the latest of a name is the one that counts."""

    def __init__(self, dot: Value) -> None:
        self._values: dict[str, list[Value]] = {"$": [dot]}
        self._declared: list[str] = []

    def declare(self, name: str, value: Value) -> None:
        """`$name := value`."""
        self._values.setdefault(name, []).append(value)
        self._declared.append(name)

    def assign(self, name: str, value: Value) -> bool:
        """`$name = value`; False if there is no such variable."""
        values = self._values.get(name)
        if not values:
            return False
        values[-1] = value
        return True

    def value(self, name: str) -> Value | None:
        """The variable's value, None if there is no such variable."""
        values = self._values.get(name)
        return values[-1] if values else None

    def mark(self) -> int:
        """For `forget`."""
        return len(self._declared)

    def forget(self, mark: int) -> None:
        """Back to the variables that there were at the mark."""
        while len(self._declared) > mark:
            self._values[self._declared.pop()].pop()
