"""Goes through the walkthrough: changes what the host and the owner own, and watches the counters of the pages."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from demo.mesh import POLICY, VARIANTS, Mesh
from demo.observation import Observation, thefts
from demo.staging import Running
from demo.stories.mesh import THIEF
from demo.topology import key_of

Counter = tuple[str, str]
BOUGHT, STOLEN = ("bookbuyer", "books_bought"), ("bookthief", "books_stolen")
SOLD, SOLD_V2 = ("bookstore", "books_sold"), ("bookstore-v2", "books_sold")
FROM_V1, FROM_V2 = ("bookbuyer", "books_bought_from_bookstore_v1"), ("bookbuyer", "books_bought_from_bookstore_v2")
SETTINGS = {
    "bookbuyer": {"CBS_BUY_INTERVAL": "0.04", "CBS_BUY_CONCURRENCY": "4"},
    "bookthief": {"CBS_STEAL_INTERVAL": "0.02"},
}

_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.05
_QUIET_SECONDS = 0.7  # so long nothing is counted where otherwise many are
_SOME = 5


@dataclass(frozen=True, slots=True)
class Walk:
    """A system that runs, and the mesh beside it."""

    system: Running
    mesh: Mesh

    async def look(self) -> Observation:
        return await self.system.observe()

    async def count(self, counter: Counter) -> int:
        return (await self.look()).counter(*counter)

    async def until(self, condition: Callable[[Observation], bool], what: str) -> Observation:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not condition(seen := await self.look()):
            assert time.monotonic() < deadline, f"{what}: {seen}"
            await asyncio.sleep(_LOOK_SECONDS)
        return seen

    async def rise(self, *counters: Counter, by: int = _SOME) -> Observation:
        before = await self.look()
        return await self.until(
            lambda now: all(now.counter(*each) >= before.counter(*each) + by for each in counters), f"{counters} rise"
        )

    async def stand_still(self, *counters: Counter) -> Observation:
        """Returns when none of them has been counted for a while; what was under way has ended then."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            before = await self.look()
            await asyncio.sleep(_QUIET_SECONDS)
            now = await self.look()
            if all(now.counter(*each) == before.counter(*each) for each in counters):
                return now
            assert time.monotonic() < deadline, f"{counters} do not stop: {now}"

    # the host's

    async def host_applies(self, *files: str, take_away: tuple[str, ...] = (), **instead: str) -> None:
        """Files as they are shipped, or variants `name=variant` in their place; returns when they are in force."""
        before = self.mesh.state()["version"]
        for name in take_away:
            (self.mesh.policy / name).unlink()
        for name, source in [(file, POLICY / file) for file in files] + [
            (f"{name.replace('_', '-')}.yaml", VARIANTS / variant) for name, variant in instead.items()
        ]:
            unfinished = self.mesh.policy / f".{name}.tmp"
            shutil.copy(source, unfinished)
            unfinished.replace(self.mesh.policy / name)
        await self.until(lambda now: now.mesh["version"] != before and now.mesh["error"] is None, "policy in force")

    async def refused(self, source: str, destination: str) -> int:
        """How often sidecars have refused so far."""
        rows = (await self.look()).refused_by_mesh(source, key_of(destination))
        assert all(row["rule"] == "deny-by-default" for row in rows)
        return sum(row["count"] for row in rows)

    async def is_refused_again(self, source: str, destination: str) -> None:
        before = await self.refused(source, destination)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while await self.refused(source, destination) <= before:
            assert time.monotonic() < deadline, f"nobody refuses {source} at {destination}"
            await asyncio.sleep(_LOOK_SECONDS)

    # the thief's

    async def attempts(self, method: str) -> bookthief_pb2.Attempts:
        address = self.system.topology.address("bookthief")
        return next((each for each in await thefts(address) if each.method == method), bookthief_pb2.Attempts())

    async def thief_is_told(self, words: str, method: str, *, times: int = 3) -> None:
        """That many attempts more have ended so, and none has gone otherwise at the end."""
        before, told = await self.attempts(method), 0
        tried, deadline = before.tried, time.monotonic() + _PATIENCE_SECONDS
        while told < times:
            now = await self.attempts(method)
            if now.tried > tried:
                told, tried = (told + 1 if words in now.last_refusal else 0), now.tried
            assert time.monotonic() < deadline, f"the thief is not told {words!r}: {now}"
            await asyncio.sleep(_LOOK_SECONDS)

    async def thief_stays_out(self, method: str) -> None:
        """It goes on trying, at the sidecar, and has no more afterwards than before."""
        before = await self.count(STOLEN)
        await self.is_refused_again(THIEF, "bookstore")
        tried = (await self.attempts(method)).tried
        await self.until_tried(method, tried + _SOME)
        assert await self.count(STOLEN) == before

    async def until_tried(self, method: str, times: int) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while (await self.attempts(method)).tried < times:
            assert time.monotonic() < deadline, f"the thief does not try {method}"
            await asyncio.sleep(_LOOK_SECONDS)

    # shares

    async def shares(self, purchases: int = 200) -> tuple[float, float]:
        """Of v1 and v2, in so many purchases from now on."""
        before = await self.look()
        now = await self.rise(BOUGHT, by=purchases)
        first, second = (now.counter(*each) - before.counter(*each) for each in (FROM_V1, FROM_V2))
        return first / (first + second), second / (first + second)


async def cbs(contexts: Path, *arguments: str) -> dict[str, Any]:
    """A command of the owner's, in JSON."""
    command = [sys.executable, "-m", "cli", *arguments, "--output", "json"]
    environment = os.environ | {"CBS_CONTEXT": str(contexts)}
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
