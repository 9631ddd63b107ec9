"""Asks the coordinator to be made a bookbuyer, with the thief's own genuine quote.

Nothing here is forged: the quote is the platform's and it says truly what code runs. That is what gives the thief away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.marble import MarbleChannel, MarbleSettings
from confidential_bookstore.marble.identity import LiveIdentity
from services.bookthief.methods.activating import activate_as
from services.bookthief.methods.shopping import take_a_book


@dataclass(frozen=True, slots=True)
class AskTheCoordinator:
    """A real activation as marble type bookbuyer; if that works, a purchase with the certificate."""

    store_address: str
    settings: MarbleSettings
    find_platform: Callable[[], Platform]
    name: str = "ask the coordinator"

    async def steal(self) -> int:
        """See `Method`."""
        identity = await activate_as("bookbuyer", self.settings, self.find_platform)
        async with MarbleChannel(LiveIdentity(identity), "bookstore", self.store_address) as channel:
            return await take_a_book(channel)
