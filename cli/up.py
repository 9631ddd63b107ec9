"""`cbs up`: one stage of the bookstore on this machine, to be talked to and looked at."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from cli.output import OutputFormat, OutputOption
from cli.playing import DEFAULT_FOLDER, DEFAULT_NETWORK, FolderOption, NetworkOption, Playing
from demo import screen
from demo.stages import Stage
from demo.staging import Running, here, started
from demo.topology import PAGES, SERVICES
from demo.workspace import Workspace


async def run(folder: Path, network: str, stage: Stage, output: OutputFormat) -> bool:
    """Start it, say how to talk to it, and keep it running until a signal comes; whether it has started."""
    playing = Playing(output)
    workspace = Workspace(folder)
    here(stage)

    async def play() -> bool:
        playing.report(f"stage {stage.value}: {stage.protection}")
        async with started(stage, workspace, network, report=playing.report) as system:
            playing.finishing = True
            if output is OutputFormat.JSON:
                print(json.dumps(_facts(stage, workspace, system)), flush=True)  # noqa: T201  # for a program that waits
            playing.console.print(f"stage {stage.value} is up; Ctrl-C stops it")
            for line in screen.how_to_ask(stage, workspace):
                playing.console.print(line, highlight=False, soft_wrap=True)
            await playing.watch(system, coordinator=stage is Stage.CONFIDENTIAL)
        return True

    return await playing.run(play())


def _facts(stage: Stage, workspace: Workspace, system: Running) -> dict[str, object]:
    """Where everything is, once it runs."""
    topology = system.topology
    return {
        "stage": stage.value,
        "services": {name: topology.address(name) for name in SERVICES},
        "pages": {name: topology.page_url(name) for name in PAGES},
        "mesh": str(system.mesh.folder.absolute()) if system.mesh else None,
        "contexts": str(workspace.owner.contexts.absolute()) if stage is Stage.CONFIDENTIAL else None,
    }


def command(
    *,
    stage: Annotated[Stage, typer.Option(help="What protects the books.")] = Stage.CONFIDENTIAL,
    folder: FolderOption = DEFAULT_FOLDER,
    network: NetworkOption = DEFAULT_NETWORK,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Start one stage and keep it running, without a story; prints every address and how to talk to it."""
    raise typer.Exit(0 if asyncio.run(run(folder, network, stage, output)) else 1)
