"""`cbs mesh run`: the sidecars of one machine, doing what a folder of policy says."""

from __future__ import annotations

import asyncio
import json
import signal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import OutputFormat, OutputOption
from confidential_bookstore.errors import BookstoreError, ConfigurationError
from confidential_bookstore.telemetry.logs import configure_logging
from mesh.controller import MeshController
from mesh.events import Refusal

DEFAULT_FOLDER = Path(".run/mesh")
FolderArgument = Annotated[Path, typer.Argument(help="Has policy/*.yaml and layout.json.", metavar="FOLDER")]


class MeshStage(Enum):
    """What the sidecars see."""

    MESH = "mesh"
    CONFIDENTIAL = "confidential"


class Log:
    """Tells on standard output what happens, one line each, for people or as JSON."""

    def __init__(self, output: OutputFormat) -> None:
        self._json = output is OutputFormat.JSON

    def in_force(self, controller: MeshController) -> None:
        """Another policy."""
        state = controller.state()
        mode = "PERMISSIVE: everybody in the mesh may call everything" if state["permissive"] else "policy enforced"
        sidecars = ", ".join(state["sidecars"])
        self._say(f"version {state['version']} in force, {mode}; sidecars: {sidecars}", event="in-force", **state)

    def refused_policy(self, error: BookstoreError) -> None:
        """What was in force stays."""
        message = error.diagnostics()
        self._say(f"not taken, the policy in force stays: {message}", event="policy-refused", message=message)

    def refused_call(self, refusal: Refusal) -> None:
        """The first of its kind."""
        near = f" ({refusal.near})" if refusal.near else ""
        self._say(
            f"refused: {refusal.source} at {refusal.destination}: {refusal.what}: rule {refusal.rule}{near}",
            event="call-refused",
            source=refusal.source,
            destination=refusal.destination,
            what=refusal.what,
            layer=refusal.layer,
            rule=refusal.rule,
        )

    def _say(self, text: str, **fields: Any) -> None:
        print(json.dumps(fields) if self._json else text, flush=True)  # noqa: T201  # what the command is for


def command(
    folder: FolderArgument = DEFAULT_FOLDER,
    *,
    stage: Annotated[
        MeshStage,
        typer.Option(help="What marbles say is plain to their sidecars (mesh), or attested TLS (confidential)."),
    ] = MeshStage.MESH,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Run one Envoy for each service of the layout, until SIGTERM; changed policy is in force within a second.

    A policy that is broken changes nothing: the one before stays in force, and the error is shown.
    """
    if not folder.is_dir():
        raise ConfigurationError("there is no such folder", got=folder)
    configure_logging("mesh", output.value)  # to stderr
    asyncio.run(_run(folder, stage, Log(output)))


async def _run(folder: Path, stage: MeshStage, log: Log) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with MeshController(folder, seal=stage is MeshStage.CONFIDENTIAL, listener=log):
        await stop.wait()
