"""Regular expressions of policies: RE2, the engine that Envoy has, in both places.

So a pattern that is accepted here is accepted by Envoy and means the same to it, and no text that a caller sends takes
more than linear time. A pattern has to match the whole text.
"""

from __future__ import annotations

import re2

MAXIMUM_PROGRAM_SIZE = 1000  # of RE2; Envoy is told the same limit, see mesh/compiler

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class Pattern:
    """One compiled pattern; equal to another of the same text.

    Raises:
        ValueError: RE2 does not take it, or its program is too large.
    """

    __slots__ = ("_fullmatch", "text")

    def __init__(self, text: str) -> None:
        try:
            compiled = re2.compile(text, _OPTIONS)
        except re2.error as error:
            [words] = error.args
            raise ValueError(words.decode(errors="replace") if isinstance(words, bytes) else str(words)) from None
        if compiled.programsize > MAXIMUM_PROGRAM_SIZE:
            raise ValueError(f"the pattern is too large: {compiled.programsize} of {MAXIMUM_PROGRAM_SIZE} steps")
        self.text = text
        self._fullmatch = compiled.fullmatch

    def matches(self, text: str) -> bool:
        """Whether the whole text matches."""
        return self._fullmatch(text.encode(errors="surrogatepass")) is not None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"
