"""The ways of stealing, one module each. A new one is a class with `name` and `steal`, listed in `__main__`."""

from __future__ import annotations

from typing import Protocol


class Refused(Exception):
    """The theft failed; the message is the victim's own words. To a thief this is no error but the usual day."""


class Method(Protocol):
    """One way of stealing books."""

    @property
    def name(self) -> str:
        """As it is shown, for example "no certificate"."""
        ...

    async def steal(self) -> int:
        """Try in earnest, and return how many copies the victim has handed over.

        Raises:
            Refused: it has handed over none.
        """
        ...
