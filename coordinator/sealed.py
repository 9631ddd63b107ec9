"""Where the state of this coordinator is sealed, and with what: the choice that settings and platform make."""

from __future__ import annotations

import asyncio
import contextlib

from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import SealingUnavailable
from coordinator.sealing.directory import open_directory
from coordinator.sealing.keys import KeySealing, NoKeys, PlatformKeys, RawKeys
from coordinator.sealing.sealed_state import SealedState
from coordinator.settings import CoordinatorSettings


async def open_sealed_state(
    settings: CoordinatorSettings,
    platform: Platform | None,
    verifier: Verifier | None,
    stack: contextlib.AsyncExitStack,
) -> SealedState:
    """The sealed state; what has to be let go of afterwards goes onto the stack.

    Raises:
        SealedStateError: it is in use, or cannot be opened.
        PlatformError: the platform does not answer.
    """
    store = stack.enter_context(open_directory(settings.seal_directory))
    if platform is None:
        return SealedState(store, RawKeys(), None)
    return SealedState(store, await asyncio.to_thread(_own_keys, platform), platform.raise_counter)


def _own_keys(platform: Platform) -> KeySealing:
    """A platform without sealing keys is good enough: then every start needs the recovery keys."""
    try:
        return PlatformKeys.of(platform)
    except SealingUnavailable:
        return NoKeys()
