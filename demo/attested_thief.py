"""The thief that is what it says: a genuine, attested marble of type bookthief, as the manifest names it.

Attestation alone does not keep it out. The policy inside of the bookstore does, and it came with the manifest; what the
host's mesh allows, or whether the thief goes through a sidecar at all, makes no difference.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from demo.launching import in_enclave
from demo.observation import Observation, thefts
from demo.outcome import Outcome
from demo.supervisor import Program
from demo.system import System

METHOD = "attested "  # how the thief's name for it begins
EXPECTED = "PERMISSION_DENIED by a rule of the manifest (intended)"
ROUND = "the same, straight to the store, round every sidecar"
_NAME = "bookthief-round"
_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.2


async def steal_round_the_sidecar(system: System) -> Outcome:
    """The same image once more, with a host that gives it the store's and the coordinator's own addresses."""
    topology = system.topology
    folder, listening = topology.state / _NAME, f"{topology.network}.67:14001"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    environment = topology.environment("bookthief") | {
        "EDG_MARBLE_COORDINATOR_ADDR": topology.address("coordinator"),
        "EDG_MARBLE_UUID_FILE": str(folder / "uuid"),
        "CBS_BOOKSTORE_ADDR": topology.address("bookstore"),
        "CBS_DATA_DIR": str(folder),
        "CBS_LISTEN_ADDR": listening,
        "CBS_STATUS_ADDR": f"{topology.network}.67:8080",
    }
    launch = in_enclave(system.enclaves["bookthief"], system.platform, environment)
    await system.supervisor.start(Program(_NAME, launch, system.workspace.logs / f"{_NAME}.log"))
    try:
        attempts = await _attempts(listening)
    finally:
        await system.supervisor.stop(_NAME)
    return judge(ROUND, attempts, await system.observe())


async def steal_through_the_mesh(system: System) -> Outcome:
    """The thief that has been running all the time, through its sidecar if there are any."""
    part = "a genuine, attested bookthief" + (", whom the mesh's policy allows" if system.mesh else "")
    attempts = await _attempts(system.topology.address("bookthief"))
    return judge(part, attempts, await system.observe())


async def _attempts(address: str) -> bookthief_pb2.Attempts | None:
    """What the thief there tells of this method, once the store has answered it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    attempts = None
    while time.monotonic() < deadline:
        attempts = next((row for row in await thefts(address) if row.method.startswith(METHOD)), None)
        if attempts is not None and (_denied(attempts) or attempts.tried > attempts.refused):
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return attempts


def _denied(attempts: bookthief_pb2.Attempts) -> bool:
    return attempts.last_refusal.startswith("PERMISSION_DENIED") and "(rule: " in attempts.last_refusal


def judge(part: str, attempts: bookthief_pb2.Attempts | None, seen: Observation) -> Outcome:
    """Attested by the coordinator, refused by the store with a rule, and nothing got away with."""
    if attempts is None or not attempts.tried:
        return Outcome(part, EXPECTED, "it has not tried", good=False)
    activation: Mapping[str, object] | None = seen.latest_activation("bookthief")
    attested = "attested" if activation else "not attested"
    stolen = attempts.tried - attempts.refused
    return Outcome(
        part,
        EXPECTED,
        f"{stolen} stolen; {attempts.last_refusal}" if stolen else f"{attested}; {attempts.last_refusal}",
        good=bool(activation) and _denied(attempts) and stolen == 0,
    )
