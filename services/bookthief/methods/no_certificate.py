"""Asks over TLS, like any browser would."""

from __future__ import annotations

from dataclasses import dataclass

from services.bookthief.methods.over_tls import buy_over_tls


@dataclass(frozen=True, slots=True)
class NoCertificate:
    """TLS without a client certificate."""

    store_address: str
    name: str = "no certificate"

    async def steal(self) -> int:
        """See `Method`."""
        return await buy_over_tls(self.store_address)
