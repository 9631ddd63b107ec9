"""Buying over TLS with a certificate of the thief's choice, or none."""

from __future__ import annotations

import asyncio

import grpc

from confidential_bookstore.secret import Secret
from services.bookthief.methods import Refused
from services.bookthief.methods.handshake import greet
from services.bookthief.methods.shopping import take_a_book


async def buy_over_tls(address: str, chain_pem: bytes | None = None, key_pem: Secret[bytes] | None = None) -> int:
    """Copies the store at `address` has handed over.

    Raises:
        Refused: with its TLS alert, or else its gRPC status.
    """
    greeting = await asyncio.to_thread(greet, address, chain_pem, key_pem)
    credentials = grpc.ssl_channel_credentials(
        greeting.certificate_pem, key_pem.reveal() if key_pem else None, chain_pem
    )
    options = [("grpc.ssl_target_name_override", greeting.name), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        try:
            return await take_a_book(channel)
        except Refused as refused:
            raise Refused(greeting.last_words or str(refused)) from refused
