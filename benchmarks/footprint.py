"""How soon the first book is sold, and how much memory each process holds: `python -m benchmarks.footprint`."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from demo.observation import observe
from demo.system import System
from demo.topology import ENCLAVES, Topology
from demo.workspace import Workspace

NETWORK = "127.0.90"
FIRST_SALE_GOAL_SECONDS = 10.0
RESIDENT_GOAL_MB = 90.0
_LOAD_SECONDS = 20.0
_LOOK_SECONDS = 0.05


def measure() -> dict[str, Any]:
    """Seconds from a warm start to the first sale, and resident megabytes (10^6 bytes) after some load."""
    folder = Path(tempfile.mkdtemp(prefix="footprint-"))
    try:
        return asyncio.run(_measure(Workspace(folder)))
    finally:
        shutil.rmtree(folder)


async def _measure(workspace: Workspace) -> dict[str, Any]:
    platform = workspace.platform()
    workspace.enclaves(platform, lambda _: None)  # warm: everything is built
    started = time.monotonic()
    enclaves = workspace.enclaves(platform, lambda _: None)
    busy = {"bookbuyer": {"CBS_BUY_INTERVAL": "0", "CBS_BUY_CONCURRENCY": "16"}}
    async with System(workspace, Topology(NETWORK, workspace.state, busy), platform, enclaves) as system:
        await _first_sale(system.topology)
        first_sale = time.monotonic() - started
        await asyncio.sleep(_LOAD_SECONDS)
        resident = {name: _resident_mb(system.supervisor.pid(name)) for name in ENCLAVES}
    return {
        "first_sale_seconds": round(first_sale, 1),
        "first_sale_goal_seconds": FIRST_SALE_GOAL_SECONDS,
        "resident_mb": resident,
        "resident_goal_mb": RESIDENT_GOAL_MB,
    }


async def _first_sale(topology: Topology) -> None:
    while True:
        if (await observe(topology)).counter("bookbuyer", "books_bought"):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _resident_mb(pid: int) -> float:
    """VmRSS of proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text()
    kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return round(kibibytes * 1024 / 1e6, 1)


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
