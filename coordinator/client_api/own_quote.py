"""The coordinator's own evidence: quotes that bind its root certificate to its code.

The platform is asked for one quote at a time, however many callers there are: a quote may take a second, and anybody
may ask for a fresh one.
"""

from __future__ import annotations

import asyncio

from confidential_bookstore.attestation.binding import coordinator_report_data
from confidential_bookstore.attestation.platforms import Platform


class OwnQuote:
    """Quotes over the root certificate. Make one with `obtain`. Without a platform all quotes are empty."""

    def __init__(self, platform: Platform | None, root_der: bytes, quote: bytes) -> None:
        self._platform = platform
        self._asking = asyncio.Lock()
        self._kept = (root_der, quote)

    @classmethod
    async def obtain(cls, platform: Platform | None, root_der: bytes) -> OwnQuote:
        """Asks for the quote that is given to everybody who has no nonce.

        Raises:
            PlatformError: the platform has none. A coordinator on it does not start.
        """
        return cls(platform, root_der, await _quote(platform, root_der, b""))

    async def of(self, root_der: bytes) -> bytes:
        """The quote for everybody. It is kept until the root is another one, as after a recovery.

        Raises:
            PlatformError: the platform does not answer.
        """
        root, quote = self._kept
        if root != root_der:
            quote = await self.fresh(root_der, b"")
            self._kept = (root_der, quote)
        return quote

    async def fresh(self, root_der: bytes, nonce: bytes) -> bytes:
        """A quote that did not exist before the nonce did.

        Raises:
            PlatformError: the platform does not answer.
        """
        async with self._asking:
            return await _quote(self._platform, root_der, nonce)


async def _quote(platform: Platform | None, root_der: bytes, nonce: bytes) -> bytes:
    if platform is None:
        return b""
    return await asyncio.to_thread(platform.quote, coordinator_report_data(root_der, nonce))
