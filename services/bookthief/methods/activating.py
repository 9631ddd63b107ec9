"""Activation as a thief does it: with its own genuine quote, and at whichever coordinator answers."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import uuid
from collections.abc import Callable

from cryptography import x509

from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.marble import Identity, MarbleSettings
from confidential_bookstore.marble.activation import activate_once
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust
from confidential_bookstore.marble.tls import split_address
from services.bookthief.methods import Refused


async def activate_as(marble_type: str, settings: MarbleSettings, find_platform: Callable[[], Platform]) -> Identity:
    """What the coordinator makes of a request to be this marble type. A thief has nothing to lose by trusting it.

    Raises:
        Refused: the coordinator's words, or that there is none.
    """
    try:
        address = split_address(settings.coordinator_client_address)
        root = await asyncio.to_thread(ssl.get_server_certificate, address, timeout=5.0)
        activation = await activate_once(
            dataclasses.replace(settings, marble_type=marble_type),
            find_platform(),
            CoordinatorTrust(verifier=None, pinned_root=x509.load_pem_x509_certificate(root.encode())),
            uuid.uuid4(),
        )
    except BookstoreError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"no coordinator answers: {error.strerror or error}") from error
    return activation.identity
