"""The mesh's control plane as a process of the demo: `python -m demo.sidecars FOLDER STAGE`.

It does what `cbs mesh run` does, and ends with the demo, also when that is killed. Its sidecars outlive it only if it
is killed itself; the supervisor starts the next one, which takes over.
"""

from __future__ import annotations

import sys
from pathlib import Path

import structlog

from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.serving.process import run
from confidential_bookstore.telemetry.logs import configure_logging
from demo.stages import Stage
from demo.stopping import asked_to_stop
from mesh.controller import MeshController
from mesh.events import Refusal

_log = structlog.get_logger()


class _Log:
    """Writes down what happens."""

    def in_force(self, controller: MeshController) -> None:
        _log.info("mesh.in_force", version=controller.version)

    def refused_policy(self, error: BookstoreError) -> None:
        _log.error("mesh.policy_refused", reason=str(error), hint=error.hint)

    def refused_call(self, refusal: Refusal) -> None:
        _log.warning(
            "mesh.refused", source=refusal.source, destination=refusal.destination, what=refusal.what, rule=refusal.rule
        )


async def serve() -> None:
    """Until it is asked to stop."""
    configure_logging("mesh", "json")
    folder, stage = Path(sys.argv[1]), Stage(sys.argv[2])
    async with MeshController(folder, seal=stage is Stage.CONFIDENTIAL, listener=_Log()):
        await asked_to_stop()


if __name__ == "__main__":
    run("mesh", serve)
