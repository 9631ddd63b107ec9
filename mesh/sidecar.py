"""One sidecar: an Envoy that is kept running, and the files that it reads.

The Envoy outlives the control plane: when that dies, calls go on under the policy that is in force. The next control
plane ends what the last one has left, and starts its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path

import structlog

from confidential_bookstore.errors import MeshError, UpdateRejected
from mesh import admin
from mesh.compiler import Resources, bootstrap, discovery, files, secret_files, version_statistics, withholding_policy
from mesh.compiler.wire import Json
from mesh.envoy_process import end_left_over, last_rejection, run_once
from mesh.private_files import write_private

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0
_STABLE_SECONDS = 10.0
_IN_FORCE_SECONDS = 5.0
_LOOK_SECONDS = 0.005
_NOTHING = Resources([], [], [])

_log = structlog.get_logger()


class Step(Enum):
    """In which order a configuration comes into force, on all sidecars one step after the other.

    Listeners name clusters, so those come first. Who may call comes last, in filter chains (of connections) and in
    routes (of requests): what Envoy may refuse, such as a port that is taken, it has refused by then.
    """

    CLUSTERS = "clusters"
    LISTENERS = "listeners"
    CONNECTIONS = "connections"
    ROUTES = "routes"

    def has(self, file: str, *, known: bool) -> bool:
        """Whether the step writes this file; a new listener needs its routes at once."""
        return file.startswith(_FILES[self]) or (self is Step.LISTENERS and file.startswith("rds") and not known)


_FILES = {Step.CLUSTERS: "cds", Step.LISTENERS: "lds", Step.CONNECTIONS: "lds", Step.ROUTES: "rds"}


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
        self._contents: dict[str, list[Json]] = {}  # of the files as they are
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

    async def push(self, step: Step, resources: Resources, version: str) -> None:
        """Puts one step of a configuration in force, if something in it has changed.

        Raises:
            UpdateRejected: Envoy refuses it, or does not have it after some seconds.
        """
        new = files(withholding_policy(resources, self.resources) if step is Step.LISTENERS else resources, "")
        # What is in its file counts, not what was taken: after a refusal the files are ahead.
        changed = [name for name in new if step.has(name, known=name in self._contents) and self._differs(name, new)]
        rejected = await self._rejected() if changed else 0
        own = f"{version}-{step.value}"  # a file may change in two steps
        for name in sorted(changed, reverse=True):  # routes before the listeners that need them
            self._put(name, new[name], own)
        statistics = version_statistics(resources)
        await self._in_force({statistics[name]: own for name in changed}, rejected)
        if step is Step.ROUTES:
            self._forget(self._contents.keys() - new.keys())
            self.resources, self.version = resources, version

    def _differs(self, name: str, new: Mapping[str, Json]) -> bool:
        return name not in self._contents or self._contents[name] != list(new[name]["resources"])

    def _forget(self, names: Iterable[str]) -> None:
        """Files that nothing names any longer: what is in them must not come back with a later listener."""
        for name in names:
            del self._contents[name]
            (self.folder / name).unlink(missing_ok=True)

    def _put(self, name: str, content: Json, version: str) -> None:
        self._write(name, discovery(version, content["resources"]))
        self._contents[name] = content["resources"]

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
