"""Where the state of this coordinator is sealed, and with what: the choice that settings and platform make.

alone, with a platform       the seal directory, under the platform's sealing key
alone, without (see README)  the seal directory, with the key in clear, as MarbleRun has it without an enclave
with others                  a directory or a database, under a key that attested coordinators hand to each other
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from confidential_bookstore.attestation.platforms import Platform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import ConfigurationError, SealingUnavailable
from coordinator.sealing.directory import open_directory
from coordinator.sealing.handover import KeyHandover, Peer, PeerKeys, own_claims, peers_at
from coordinator.sealing.keys import KeySealing, NoKeys, PlatformKeys, RawKeys
from coordinator.sealing.sealed_state import SealedState
from coordinator.sealing.shared_keys import SharedKeys
from coordinator.sealing.store import StateStore
from coordinator.settings import CoordinatorSettings, SharedStateSettings

DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class SealedPlace:
    """The sealed state, and the service that hands its key to other coordinators, if it is shared."""

    sealed: SealedState
    handover: KeyHandover | None = None

    @property
    def is_not_shared_yet(self) -> bool:
        """What was loaded is the state of a single coordinator, with a key that others will not get."""
        return self.handover is not None and self.handover.keys.current is None


async def open_sealed_place(
    settings: CoordinatorSettings,
    platform: Platform | None,
    verifier: Verifier | None,
    stack: contextlib.AsyncExitStack,
) -> SealedPlace:
    """What has to be let go of afterwards goes onto the stack.

    Raises:
        SealedStateError: the state is in use, or cannot be opened.
        PlatformError: the platform does not answer, or its enclaves cannot share a state.
        ConfigurationError: a coordinator without a platform is to share its state, or the store's address is wrong.
    """
    if settings.shared is not None:
        if platform is None or verifier is None:
            raise ConfigurationError(
                "EDG_DISTRIBUTED_COORDINATOR needs a platform that attests", hint="leave OE_SIMULATION out"
            )
        store = _shared_store(settings, settings.shared, stack)
        return await _shared(settings, settings.shared, store, platform, verifier)
    directory = stack.enter_context(open_directory(settings.seal_directory))
    if platform is None:
        return SealedPlace(SealedState(directory, RawKeys(), None))
    return SealedPlace(SealedState(directory, await asyncio.to_thread(_own_keys, platform), platform.raise_counter))


def _own_keys(platform: Platform) -> KeySealing:
    """A platform without sealing keys is good enough: then every start needs the recovery keys."""
    try:
        return PlatformKeys.of(platform)
    except SealingUnavailable:
        return NoKeys()


def _shared_store(
    settings: CoordinatorSettings, shared: SharedStateSettings, stack: contextlib.AsyncExitStack
) -> StateStore:
    if shared.store == DIRECTORY:
        return stack.enter_context(open_directory(settings.seal_directory, shared=True))
    try:
        # SQLAlchemy is in the image of a coordinator with a database only.
        from coordinator.sealing.sql import SqlStore  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "this coordinator cannot keep its state in a database",
            got=f"no module {error.name}",
            hint="build it from coordinator/sql.enclave.json",
        ) from None
    store = SqlStore(shared.store)
    stack.callback(store.close)
    return store


async def _shared(
    settings: CoordinatorSettings,
    shared: SharedStateSettings,
    store: StateStore,
    platform: Platform,
    verifier: Verifier,
) -> SealedPlace:
    own = await own_claims(platform, verifier)
    ports = settings.client_address[1], shared.key_address[1]

    def peers() -> Iterator[Peer]:
        """All coordinators have the same ports; behind one name there may be several."""
        for name in shared.peers:
            yield from peers_at(name, *ports)

    ask = PeerKeys(peers, platform=platform, verifier=verifier, own=own, loop=asyncio.get_running_loop())
    keys = await asyncio.to_thread(SharedKeys.of, platform, store, ask)
    handover = KeyHandover(keys=keys, verifier=verifier, own=own)
    return SealedPlace(SealedState(store, keys, platform.raise_counter), handover)
