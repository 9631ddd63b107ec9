"""One sidecar: an Envoy that is kept running, and the files that it reads.

The Envoy outlives the control plane: when that dies, calls go on under the policy that is in force. The next control
plane ends what the last one has left, and starts its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from confidential_bookstore.errors import MeshError, UpdateRejected
from mesh import admin
from mesh.compiler import Resources, bootstrap, discovery, files, secret_files, version_statistics
from mesh.compiler.wire import Json
from mesh.envoy_process import end_left_over, last_rejection, run_once
from mesh.private_files import write_private

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0
_STABLE_SECONDS = 10.0
_IN_FORCE_SECONDS = 5.0
_LOOK_SECONDS = 0.005
_NOTHING = Resources([], [], [])

_log = structlog.get_logger()


class Sidecar:
    """Of one service.

    Args:
        key: of the service, `namespace/name`.
        folder: for its files, which are secret.
        line: called with each line of its access log.

    Attributes:
        ready: it listens, with a configuration.
        restarts: how often it had to be started again.
        pid: of its process; None if there is none.
        resources: what was pushed last and is in force.
        version: of it.
    """

    def __init__(self, key: str, folder: Path, line: Callable[[bytes], None]) -> None:
        self.key = key
        self.folder = folder
        self.ready = False
        self.restarts = 0
        self.pid: int | None = None
        self.resources = _NOTHING
        self.version = "none"
        self._line = line
        self._running: asyncio.Task[None] | None = None
        self._versions: dict[str, str] = {}  # by file
        self._socket = folder / "admin.sock"

    def prepare(self, secrets: list[Json]) -> None:
        """Ends what is left of an earlier one, and lays out files that let in nobody."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_left_over(self.folder)
        for file in self.folder.glob("*.json"):
            file.unlink()
        self._write("bootstrap.json", bootstrap(self.key, self.folder, Path(self._socket.name)))
        self.give_secrets(secrets, self.version)
        for name, content in files(_NOTHING, self.version).items():
            self._put(name, content, self.version)

    def start(self, envoy: str) -> None:
        """Starts it, and keeps it running until `stop`."""
        self._running = asyncio.create_task(self._keep(envoy), name=f"sidecar {self.key}")

    async def stop(self) -> None:
        """Ends it."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    def give_secrets(self, secrets: list[Json], version: str) -> None:
        """Certificates, for new connections; open ones stay."""
        for name, content in secret_files(secrets, version).items():
            self._write(name, content)

    async def push(self, resources: Resources, version: str) -> None:
        """Puts a configuration in force: only what has changed, and so that nothing names what is not there yet.

        Raises:
            UpdateRejected: Envoy refuses a part of it, or does not have it after some seconds.
        """
        before = files(self.resources, "")
        changed = {
            name: discovery(version, content["resources"])
            for name, content in files(resources, "").items()
            if before.get(name) != content or name not in self._versions
        }
        statistics = version_statistics(resources)
        clusters = {name: content for name, content in changed.items() if name.startswith("cds")}
        routes = {name: content for name, content in changed.items() if name.startswith("rds")}
        listeners = {name: content for name, content in changed.items() if name.startswith("lds")}
        rejected = await self._rejected()
        for name, content in clusters.items():
            self._put(name, content, version)
        await self._in_force({statistics[name]: version for name in clusters}, rejected)
        for name, content in (routes | listeners).items():  # a new listener finds its routes
            self._put(name, content, version)
        await self._in_force({statistics[name]: version for name in routes | listeners}, rejected)
        self.resources, self.version = resources, version

    def _put(self, name: str, content: Json, version: str) -> None:
        self._write(name, content)
        self._versions[name] = version

    def _write(self, name: str, content: Json) -> None:
        write_private(self.folder / name, json.dumps(content).encode())

    async def _in_force(self, wanted: Mapping[str, str], rejected: int) -> None:
        """Returns when Envoy has these versions, by statistic. `rejected`: how many updates it had rejected before."""
        deadline = time.monotonic() + _IN_FORCE_SECONDS
        refused = ""
        while wanted and not refused:
            if time.monotonic() > deadline:
                refused = "it does not have it after some seconds"
            with contextlib.suppress(MeshError):
                has = await admin.texts(self._socket)
                if all(has.get(name) == version for name, version in wanted.items()):
                    return
                if await admin.rejections(self._socket) > rejected:
                    refused = last_rejection(self.folder)
            await asyncio.sleep(_LOOK_SECONDS)
        if refused:
            raise UpdateRejected(f"the sidecar of {self.key} does not take the configuration", got=refused)

    async def _rejected(self) -> int:
        """0 if it does not answer: it will be started anew, and reads the files then."""
        with contextlib.suppress(MeshError):
            return await admin.rejections(self._socket)
        return 0

    async def _keep(self, envoy: str) -> None:
        pause = _FIRST_PAUSE
        while True:
            started = time.monotonic()
            self._socket.unlink(missing_ok=True)
            waiting = asyncio.create_task(self._until_live(), name="until live")
            try:
                await run_once(envoy, self.folder, self._line, self._begun)
            except OSError as error:  # no process, no space: it may be there again in a while
                _log.error("sidecar.not-started", service=self.key, reason=str(error))
            finally:
                waiting.cancel()
                self.ready, self.pid = False, None
            if time.monotonic() - started > _STABLE_SECONDS:
                pause = _FIRST_PAUSE
            _log.error("sidecar.ended", service=self.key, hint="it is started again, with the same policy")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            self.restarts += 1

    def _begun(self, pid: int) -> None:
        self.pid = pid

    async def _until_live(self) -> None:
        while not self.ready:
            with contextlib.suppress(MeshError):
                self.ready = await admin.is_live(self._socket)
            await asyncio.sleep(10 * _LOOK_SECONDS)
