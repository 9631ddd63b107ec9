"""Asks without TLS, in case the store listens to everybody."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from services.bookthief.methods.shopping import take_a_book


@dataclass(frozen=True, slots=True)
class Plaintext:
    """gRPC without TLS."""

    store_address: str
    name: str = "plaintext"

    async def steal(self) -> int:
        """See `Method`."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.store_address, options=options) as channel:
            return await take_a_book(channel)
