"""Which of many patterns match a text? One walk over the text, however many there are."""

from __future__ import annotations

from collections.abc import Sequence

import re2

from confidential_bookstore.policy.pattern import Pattern

_ANYTHING = r"\C*"  # matches every text, so an answer without it says that RE2 has run out of memory
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class PatternSet:
    """A fixed sequence of patterns, as one automaton; if that grows too large for RE2, one after the other."""

    __slots__ = ("_all", "_patterns")

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(patterns)
        self._all = re2.Set.FullMatchSet(_OPTIONS)
        for pattern in self._patterns:
            self._all.Add(pattern.text)
        self._all.Add(_ANYTHING)
        try:
            self._all.Compile()
        except re2.error:
            self._all = None

    def matching(self, text: str) -> list[int]:
        """The positions of the patterns that match the whole text, in ascending order."""
        encoded = text.encode(errors="surrogatepass")
        found: list[int] = sorted(self._all.Match(encoded) or ()) if self._all is not None else []
        if found:
            return found[:-1]
        return [index for index, pattern in enumerate(self._patterns) if pattern.matches(text)]
