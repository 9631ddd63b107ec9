"""The one current deployment. A change is sealed before anybody sees it, and changes happen one after the other.

Reading takes no lock: whoever asks for `current` gets a value that stays as it is. Where several coordinators share a
state, a change that another one has overtaken is made again on what it left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import structlog

from confidential_bookstore.errors import BookstoreError, StateConflict
from confidential_bookstore.secret import Secret
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.recovering import Recovering
from coordinator.deployment.state import Phase
from coordinator.manifest.config import SealMode
from coordinator.pki.authority import Authority
from coordinator.recovery.data_key import DataKey
from coordinator.recovery.ephemeral import EphemeralKey
from coordinator.recovery.session import Progress
from coordinator.sealing.sealed_state import Locked, SealedState, Unsealed

log = structlog.get_logger()

T = TypeVar("T")
Step = Callable[[Deployment], tuple[Deployment, T]]
Restore = Callable[[Mapping[str, bytes], DataKey], Deployment]

_ROOT_SECRET = 32  # bytes
_ATTEMPTS = 5  # outside the lock; then the change is made inside
_CONFLICTS = 100  # with other coordinators, each of which means that one of them got on


class LiveDeployment:
    """Holds the current deployment and its sealed copy.

    Args:
        deployment: to begin with.
        sealed: where it is kept.
        restore: makes a deployment of records that another coordinator has sealed, or that were recovered.
        recovering: if there is sealed state that cannot be unsealed.
    """

    def __init__(
        self,
        deployment: Deployment,
        sealed: SealedState,
        *,
        restore: Restore = Deployment.restore,
        recovering: Recovering | None = None,
    ) -> None:
        self._current = deployment
        self._sealed = sealed
        self._restore = restore
        self._recovering = recovering
        self._announced = deployment
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()
        self._changed = asyncio.Event()
        self._listeners: list[Callable[[Deployment], None]] = []

    @property
    def current(self) -> Deployment:
        """The deployment in force."""
        return self._current

    @property
    def recovering(self) -> Recovering | None:
        """The recovery that is under way."""
        return self._recovering

    def subscribe(self, listener: Callable[[Deployment], None]) -> None:
        """Calls `listener` with every deployment that comes into force from now on."""
        self._listeners.append(listener)

    async def change(self, step: Step[T]) -> T:
        """Applies `step` (in a thread) to the current deployment and seals what it returns, which is then current.

        A caller who is cancelled meanwhile does not undo it: what is sealed is in force.

        Raises:
            SealedStateError: it cannot be written; the current deployment stays.
            Exception: whatever `step` raises; the current deployment stays.
        """
        return await self._shielded(self._change(step))

    async def change_slowly(self, step: Step[T]) -> T:
        """The same for a step that takes long: it is made again if the deployment has changed meanwhile."""
        return await self._shielded(self._change_slowly(step))

    async def recover(self, secret: bytes, signature: bytes) -> Progress:
        """Takes one recovery secret (in clear) with its signature; nothing remains when the state is recovered.

        Raises:
            StateError: there is nothing to recover.
            RecoveryError: it is not accepted; the recovery is where it was.
            SealedStateError: what was recovered cannot be read or sealed.
        """
        return await self._shielded(self._recover(secret, signature))

    async def recovery_key(self) -> EphemeralKey:
        """The key that recovery secrets can be encrypted for; made at the first call.

        Raises:
            StateError: there is nothing to recover.
        """
        return await Recovering.require(self._recovering).key()

    async def refresh(self) -> None:
        """Takes up what another coordinator has sealed."""
        async with self._in_turn():
            if await asyncio.to_thread(self._sealed.changed):
                await asyncio.to_thread(self._reload)

    async def follow(self, seconds: float) -> None:
        """Does so again and again; never returns. A store that is away is asked again, and reported once."""
        problem = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
            except BookstoreError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("shared state cannot be read", reason=problem)
            else:
                if problem:
                    problem = ""
                    log.info("shared state can be read again")

    async def wait_for_change(self, known_generation: int, seconds: float) -> None:
        """Returns when the generation of certificates is another than this one, at the latest after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._current.generations.present == known_generation:
                    await self._changed.wait()

    async def settle(self) -> None:
        """Returns when no change is under way."""
        if self._changes:
            await asyncio.wait(self._changes)

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        change = asyncio.get_running_loop().create_task(work)
        self._changes.add(change)
        change.add_done_callback(self._changes.discard)
        return await asyncio.shield(change)

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """One at a time. What the block has put in force is announced, also if the block fails in the end."""
        async with self._changing:
            try:
                yield
            finally:
                self._announce()

    async def _change(self, step: Step[T]) -> T:
        async with self._in_turn():
            return await asyncio.to_thread(self._apply, step)

    async def _change_slowly(self, step: Step[T]) -> T:
        for _ in range(_ATTEMPTS):
            base = self._current
            changed, result = await asyncio.to_thread(step, base)
            async with self._in_turn():
                if self._current is not base:
                    continue
                try:
                    await asyncio.to_thread(self._store, changed)
                except StateConflict:
                    await asyncio.to_thread(self._reload)
                    continue
                return result
        return await self._change(step)

    def _apply(self, step: Step[T]) -> T:
        for _ in range(_CONFLICTS):
            changed, result = step(self._current)
            try:
                self._store(changed)
            except StateConflict:
                self._reload()
            else:
                return result
        raise StateConflict("other coordinators change the state all the time", hint="try again")

    def _store(self, changed: Deployment) -> None:
        if changed is not self._current:
            seal(self._sealed, changed)
            self._current = changed

    def _reload(self) -> None:
        found = self._sealed.load()
        if isinstance(found, Unsealed):
            self._current = self._restore(found.records, found.data_key)
        elif isinstance(found, Locked) and self._recovering is not None:
            self._recovering.renew(found.data)

    async def _recover(self, secret: bytes, signature: bytes) -> Progress:
        async with self._in_turn():
            recovering = Recovering.require(self._recovering)
            recovered = await asyncio.to_thread(recovering.upload, secret, signature)
            if isinstance(recovered, Progress):
                return recovered
            deployment = await asyncio.to_thread(self._restore, recovered.records, recovered.data_key)
            await asyncio.to_thread(self._store, deployment)
            log.info("coordinator recovered", state=deployment.state.phase.name)
            return Progress(remaining=0, recognised=True)

    def _announce(self) -> None:
        """On the loop, after whatever may have changed the deployment."""
        if self._current is self._announced:
            return
        self._announced = self._current
        if self._current.state.phase is not Phase.RECOVERY:
            self._recovering = None
        self._changed.set()
        self._changed = asyncio.Event()
        for listener in self._listeners:
            listener(self._current)


def seal_mode(deployment: Deployment) -> SealMode:
    """How a deployment is sealed: as its manifest says."""
    return deployment.manifest.config.seal_mode if deployment.manifest else SealMode.PRODUCT_KEY


def seal(sealed: SealedState, deployment: Deployment) -> None:
    """In place of what was sealed before.

    Raises:
        SealedStateError: it cannot be written, or another coordinator has written meanwhile.
    """
    sealed.store(deployment.state.records, deployment.data_key, seal_mode(deployment))


def load_or_begin(
    sealed: SealedState, new_authority: Callable[[], Authority], restore: Restore = Deployment.restore
) -> tuple[Deployment, Recovering | None]:
    """The sealed deployment, or a new one, sealed; with the recovery if what is sealed cannot be unsealed here.

    Raises:
        SealedStateError: there is sealed state which cannot be read or written. Nothing is lost.
    """
    found = sealed.load()
    if isinstance(found, Unsealed):
        return restore(found.records, found.data_key), None
    authority, root_secret = new_authority(), Secret(os.urandom(_ROOT_SECRET))
    if isinstance(found, Locked):
        log.warning("the sealed state cannot be unsealed: recovery is needed", reason=found.reason)
        return Deployment.lock(authority, root_secret), Recovering(found.data)
    deployment = Deployment.begin(authority, root_secret)
    try:
        seal(sealed, deployment)
    except StateConflict:  # another coordinator has begun at the same moment
        return load_or_begin(sealed, new_authority, restore)
    return deployment, None
