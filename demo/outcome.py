"""How one part of the story ended, and whether it had to end so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the table.

    Attributes:
        part: what was tried or asked.
        expected: how it must end. A deliberate refusal or theft says that it is intended.
        ended: how it did, in the words of whoever decided.
        good: whether the two agree.
    """

    part: str
    expected: str
    ended: str
    good: bool


Report = Callable[[Outcome], None]
