"""The control plane: keeps the sidecars of one folder doing what its policy says.

A policy that is broken, or that Envoy does not take, changes nothing anywhere: the one before stays in force in every
sidecar, and the error is shown until a good one comes. Before the first good one there are no sidecars at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from confidential_bookstore.errors import BookstoreError, MeshError
from mesh import folder as folders
from mesh import folder_lock
from mesh.authority import LIFETIME, MeshAuthority, ServiceCertificate
from mesh.compiler import Resources, secrets, validation_config
from mesh.compiler.wire import Json
from mesh.envoy_process import end_left_over, envoy_path, validate
from mesh.events import Refusal, Refusals
from mesh.private_files import write_private
from mesh.sidecar import Sidecar, Step
from mesh.state import state_of

WATCH_SECONDS = 0.05
_STATE_SECONDS = 0.3
# A policy that only some sidecar did not take, for example because a port was taken, is tried again.
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 2.0, 60.0

_log = structlog.get_logger()


class Listener(Protocol):
    """Is told what happens."""

    def in_force(self, controller: MeshController) -> None:
        """Another policy is in force."""
        ...

    def refused_policy(self, error: BookstoreError) -> None:
        """A policy was not taken; the one before stays."""
        ...

    def refused_call(self, refusal: Refusal) -> None:
        """A refusal of a new kind."""
        ...


class MeshController:
    """Use it as an async context manager: inside, the mesh runs.

    Args:
        folder: see `mesh/folder.py`; files of its own go to `run`, `authority` and `state.json` in it.
        seal: whether what marbles say is attested TLS from end to end (stage `confidential`).
        listener: is told what happens.
        lifetime: of sidecars' certificates.
        clock: Unix seconds.

    Attributes:
        compiled: what is in force; None before the first good policy.
        version: grows by one with each policy in force; 0 before the first.
        error: why the policy in the folder is not in force; None if it is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seal: bool,
        listener: Listener,
        lifetime: dt.timedelta = LIFETIME,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder.absolute()
        self.seal = seal
        self.compiled: folders.Compiled | None = None
        self.version = 0
        self.since: float | None = None
        self.error: tuple[str, float] | None = None
        self.sidecars: dict[str, Sidecar] = {}
        self.certificates: dict[str, ServiceCertificate] = {}
        self.refusals = Refusals(listener.refused_call)
        self._listener = listener
        self._lifetime = lifetime
        self._clock = clock
        self._attempts = 0
        self._seen = ""
        self._background = asyncio.TaskGroup()  # if a part of it fails, so does the body of the `async with`
        self._tasks: list[asyncio.Task[None]] = []
        self._lock = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        self._envoy = envoy_path()
        await asyncio.to_thread(self._lock.enter_context, folder_lock.held(self.folder))
        try:
            self._authority = MeshAuthority.load_or_create(self.folder / folders.AUTHORITY, self._now())
            await self._look()
            await self._background.__aenter__()
        except BaseException:
            await self._stop()
            raise
        self._tasks = [self._background.create_task(work()) for work in (self._watch, self._renew, self._write_states)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await self._background.__aexit__(kind, error, trace)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        await asyncio.gather(*(sidecar.stop() for sidecar in self.sidecars.values()))
        for sidecar in self.sidecars.values():
            sidecar.ready = False
        await self._end_left_over()  # if there never was a good policy
        self._write_state()
        self._lock.close()

    def state(self) -> dict[str, Any]:
        """What `state.json` says."""
        return state_of(self)

    async def _watch(self) -> None:
        """Looks when something has changed, and then stays as it is for a moment: nobody is still writing."""
        tried, pause, before = time.monotonic(), _FIRST_RETRY_SECONDS, self._seen
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            now = await asyncio.to_thread(folders.fingerprint, self.folder)
            changed = now == before != self._seen
            again = self.error is not None and time.monotonic() - tried > pause
            if changed or again:
                pause = _FIRST_RETRY_SECONDS if changed else min(2 * pause, _LONGEST_RETRY_SECONDS)
                await self._look()
                tried = time.monotonic()
            before = now

    async def _look(self) -> None:
        """Takes what is in the folder, all of it or nothing."""
        self._seen = await asyncio.to_thread(folders.fingerprint, self.folder)
        try:
            compiled = await asyncio.to_thread(folders.compile_folder, self.folder, seal=self.seal)
            if self.compiled is None or compiled.sidecars != self.compiled.sidecars:
                await self._put_in_force(compiled)
            changed = self.compiled is None or compiled.policy.documents != self.compiled.policy.documents
            self.compiled = compiled
        except BookstoreError as error:
            message = error.diagnostics()
            if self.error is None or self.error[0] != message:
                self.error = (message, self._clock())
                self._listener.refused_policy(error)
        else:
            if changed or self.error is not None:
                self.version += changed
                self.error, self.since = None, self._clock()
                self._listener.in_force(self)
        self._write_state()

    async def _put_in_force(self, compiled: folders.Compiled) -> None:
        """In every sidecar, or in none.

        Raises:
            UpdateRejected: Envoy does not take it.
        """
        self._issue(compiled)
        await self._validate(compiled)
        before = {key: sidecar.resources for key, sidecar in self.sidecars.items()}
        added = [self._begin(key) for key in compiled.sidecars if key not in self.sidecars]
        try:
            await self._push(compiled.sidecars)
        except MeshError:
            for sidecar in added:
                await self.sidecars.pop(sidecar.key).stop()
            try:
                await self._push(before)
            except MeshError as error:
                _log.error(
                    "policy.not-taken-back", reason=str(error), hint="is that sidecar alive? see cbs mesh status"
                )
            raise
        for key in [key for key in self.sidecars if key not in compiled.sidecars]:
            await self.sidecars.pop(key).stop()
        await self._end_left_over()

    async def _end_left_over(self) -> None:
        """Envoys of an earlier control plane, for services that are not in the layout any longer."""
        own = {sidecar.folder for sidecar in self.sidecars.values()}
        for folder in (self.folder / folders.RUN).glob("*/"):
            if folder not in own:
                await asyncio.to_thread(end_left_over, folder)

    async def _push(self, resources: dict[str, Resources]) -> None:
        """To all at once, step by step. All of them have ended when it raises.

        Raises:
            UpdateRejected: the first that was not taken.
        """
        self._attempts += 1
        version = f"{self._attempts}"
        for step in Step:
            results = await asyncio.gather(
                *(self.sidecars[key].push(step, each, version) for key, each in resources.items()),
                return_exceptions=True,
            )
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    def _begin(self, key: str) -> Sidecar:
        sidecar = Sidecar(key, self.folder / folders.RUN / key.replace("/", "."), self._line)
        sidecar.prepare(self._secrets(key))
        sidecar.start(self._envoy)
        self.sidecars[key] = sidecar
        return sidecar

    def _line(self, line: bytes) -> None:
        self.refusals.take(line, self.compiled.policy if self.compiled else None)

    async def _validate(self, compiled: folders.Compiled) -> None:
        """Everything at once, in one process of Envoy's own."""
        every: Iterable[Json] = [secret for key in compiled.sidecars for secret in self._secrets(key)]
        file = self.folder / folders.RUN / "validation.json"
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, json.dumps(validation_config(compiled.sidecars.values(), every)).encode())
        try:
            await validate(self._envoy, file)
        finally:
            file.unlink()  # there are keys in it

    def _issue(self, compiled: folders.Compiled) -> None:
        for key, placement in compiled.layout.services.items():
            if key not in self.certificates:
                self.certificates[key] = self._authority.issue(placement.service.account, self._now(), self._lifetime)

    def _secrets(self, key: str) -> list[Json]:
        own = self.certificates[key]
        return secrets(key, own.chain_pem, own.key_pem, self._authority.root_pem)

    async def _renew(self) -> None:
        """Gives each sidecar a new certificate in time; connections that are open stay."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for key, sidecar in self.sidecars.items():
                if self.compiled and self._clock() >= self.certificates[key].renew_at:
                    account = self.compiled.layout.services[key].service.account
                    self.certificates[key] = self._authority.issue(account, self._now(), self._lifetime)
                    sidecar.give_secrets(self._secrets(key), f"{self.certificates[key].not_after}")

    async def _write_states(self) -> None:
        written = ""
        while True:
            await asyncio.sleep(_STATE_SECONDS)
            if (state := json.dumps(self.state())) != written:
                written = state
                self._write_state()

    def _write_state(self) -> None:
        try:
            write_private(self.folder / folders.STATE, json.dumps(self.state(), indent=2).encode())
        except OSError as error:  # it only tells; what is in force does not depend on it
            _log.error("state.not-written", reason=str(error))

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC)
