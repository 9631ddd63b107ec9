"""`cbs up`: one stage of the bookstore on this machine, to be talked to and looked at."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from cli.output import OutputFormat
from cli.playing import DEFAULT_FOLDER, DEFAULT_NETWORK, FolderOption, NetworkOption, Playing
from demo import screen
from demo.stages import Stage
from demo.staging import here, started
from demo.workspace import Workspace


async def run(folder: Path, network: str, stage: Stage) -> bool:
    """Start it, say how to talk to it, and keep it running until a signal comes; whether it has started."""
    playing = Playing(OutputFormat.TEXT)
    workspace = Workspace(folder)
    here(stage)

    async def play() -> bool:
        playing.report(f"stage {stage.value}: {stage.protection}")
        async with started(stage, workspace, network, report=playing.report) as system:
            playing.finishing = True
            playing.console.print(f"stage {stage.value} is up; Ctrl-C stops it")
            for line in screen.how_to_ask(stage, workspace):
                playing.console.print(line, highlight=False, soft_wrap=True)
            await playing.watch(system, coordinator=stage is Stage.CONFIDENTIAL)
        return True

    return await playing.run(play())


def command(
    *,
    stage: Annotated[Stage, typer.Option(help="What protects the books.")] = Stage.CONFIDENTIAL,
    folder: FolderOption = DEFAULT_FOLDER,
    network: NetworkOption = DEFAULT_NETWORK,
) -> None:
    """Start one stage and keep it running, without a story; prints every address and how to talk to it."""
    raise typer.Exit(0 if asyncio.run(run(folder, network, stage)) else 1)
