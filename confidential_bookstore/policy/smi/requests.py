"""What one service account may request of another: the matches of all targets between the two, found by path."""

from __future__ import annotations

from collections.abc import Iterable

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import HttpRule, Target
from confidential_bookstore.policy.smi.pattern_set import PatternSet


class Requests:
    """The matches of some targets, in their order."""

    __slots__ = ("_entries", "_of_any_path", "_of_pattern", "_patterns")

    def __init__(self, targets: Iterable[Target]) -> None:
        self._entries: list[tuple[str, Match]] = [
            (target.name, match)
            for target in targets
            for rule in target.rules
            if isinstance(rule, HttpRule)
            for match in rule.matches
        ]
        self._of_any_path: list[int] = []
        by_pattern: dict[Pattern, list[int]] = {}
        for index, (_, match) in enumerate(self._entries):
            found = self._of_any_path if match.path is None else by_pattern.setdefault(match.path, [])
            found.append(index)
        self._patterns = PatternSet(list(by_pattern))
        self._of_pattern = list(by_pattern.values())

    def for_path(self, path: str) -> list[tuple[str, Match]]:
        """Target names and matches that a request with this path may fit; methods and headers are not looked at."""
        found = list(self._of_any_path)
        for pattern in self._patterns.matching(path):
            found += self._of_pattern[pattern]
        return [self._entries[index] for index in sorted(found)]
