"""Is what it is: a genuine marble of type bookthief, attested like the others, with a certificate like theirs.

Then there is nothing wrong with its certificate, and nothing but policy between it and the books. It keeps the
certificate, and the connection, for as long as they are of use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.marble import MarbleChannel, MarbleSettings
from confidential_bookstore.marble.generations import REVOKED
from confidential_bookstore.marble.identity import LiveIdentity
from services.bookthief.methods import Refused
from services.bookthief.methods.activating import activate_as
from services.bookthief.methods.shopping import take_a_book

_UNAVAILABLE = "UNAVAILABLE"  # the store does not answer, or does not know this certificate's root any longer


@dataclass(slots=True)
class AttestedMarble:
    """A real activation as marble type bookthief, where the manifest knows one; then purchases, by the front door."""

    store_address: str
    settings: MarbleSettings
    find_platform: Callable[[], Platform]
    name: str = "attested marble"
    _channel: MarbleChannel | None = field(default=None, init=False)
    _live: LiveIdentity | None = field(default=None, init=False)

    async def steal(self) -> int:
        """See `Method`."""
        channel = await self._connected()
        try:
            return await take_a_book(channel)
        except Refused as refused:
            if REVOKED in str(refused) or str(refused).startswith(_UNAVAILABLE):
                await self.close()
            raise

    async def close(self) -> None:
        """Forgets the certificate; the next theft begins with another activation."""
        if self._channel is not None:
            await self._channel.close()
        self._channel = self._live = None

    async def _connected(self) -> MarbleChannel:
        if self._live is not None and self._live.expired:
            await self.close()
        if self._channel is None:
            self._live = LiveIdentity(await activate_as("bookthief", self.settings, self.find_platform))
            self._channel = MarbleChannel(self._live, "bookstore", self.store_address)
        return self._channel
