"""Asks the coordinator to be made a bookbuyer, with the thief's own genuine quote.

Nothing here is forged: the quote is the platform's and it says truly what code runs. That is what gives the thief away.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.marble import Identity, MarbleChannel, MarbleSettings
from confidential_bookstore.marble.activation import activate_once
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.tls import split_address
from services.bookthief.methods import Refused
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
        try:
            identity = await self._activate()
        except BookstoreError as error:
            raise Refused(str(error)) from error
        except OSError as error:
            raise Refused(f"no coordinator answers: {error.strerror or error}") from error
        async with MarbleChannel(LiveIdentity(identity), "bookstore", self.store_address) as channel:
            return await take_a_book(channel)

    async def _activate(self) -> Identity:
        """A thief trusts whichever coordinator answers: it has nothing to lose."""
        address = split_address(self.settings.coordinator_client_address)
        root = await asyncio.to_thread(ssl.get_server_certificate, address, timeout=5.0)
        activation = await activate_once(
            dataclasses.replace(self.settings, marble_type="bookbuyer"),
            self.find_platform(),
            CoordinatorTrust(verifier=None, pinned_root=x509.load_pem_x509_certificate(root.encode())),
            uuid.uuid4(),
        )
        return activation.identity
