"""The one current deployment. A change is sealed before anybody sees it, and changes happen one after the other.

Reading takes no lock: whoever asks for `current` gets a value that stays as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from confidential_bookstore.secret import Secret
from coordinator.deployment.deployment import Deployment
from coordinator.pki.authority import Authority
from coordinator.sealing.sealed_state import SealedState

_ROOT_SECRET = 32  # bytes


class LiveDeployment:
    """Holds the current deployment and its sealed copy."""

    def __init__(self, deployment: Deployment, sealed: SealedState) -> None:
        self._current = deployment
        self._sealed = sealed
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[Deployment]] = set()

    @property
    def current(self) -> Deployment:
        """The deployment in force."""
        return self._current

    async def change(self, step: Callable[[Deployment], Deployment]) -> Deployment:
        """Applies `step` (in a thread) to the current deployment and seals what it returns, which is then current.

        A caller who is cancelled meanwhile does not undo it: what is sealed is in force.

        Raises:
            SealedStateError: it cannot be written; the current deployment stays.
            Exception: whatever `step` raises; the current deployment stays.
        """
        change = asyncio.get_running_loop().create_task(self._change(step))
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        return await asyncio.shield(change)

    async def settle(self) -> None:
        """Returns when no change is under way."""
        if self._changes:
            await asyncio.wait(self._changes)

    async def _change(self, step: Callable[[Deployment], Deployment]) -> Deployment:
        async with self._changing:
            changed = await asyncio.to_thread(self._apply, step)
            self._current = changed
            return changed

    def _apply(self, step: Callable[[Deployment], Deployment]) -> Deployment:
        changed = step(self._current)
        self._sealed.store(changed.state.records)
        return changed


def load_or_begin(sealed: SealedState, new_authority: Callable[[], Authority]) -> Deployment:
    """The sealed deployment, or a new one, sealed. Reads and writes files.

    Raises:
        SealedStateError: there is sealed state which cannot be unsealed, read or written. Nothing is lost.
    """
    records = sealed.load()
    if records is not None:
        return Deployment.restore(records)
    deployment = Deployment.begin(new_authority(), Secret(os.urandom(_ROOT_SECRET)))
    sealed.store(deployment.state.records)
    return deployment
