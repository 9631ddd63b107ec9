"""`cbs demo`: the bookstore in three stages on this machine, and what a thief gets in each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cli.output import OutputFormat, OutputOption
from cli.playing import DEFAULT_FOLDER, DEFAULT_NETWORK, FolderOption, NetworkOption, Playing
from demo import screen
from demo.outcome import Outcome
from demo.stages import Stage
from demo.staging import here, started, tell
from demo.workspace import Workspace

Told = tuple[Stage, list[Outcome]]


async def run(folder: Path, network: str, wanted: Stage | None, *, once: bool, output: OutputFormat) -> bool:
    """Put on one stage after the other, and (unless `once`) keep the last one running until a signal comes.

    Returns:
        Whether every outcome was as it must be.
    """
    playing = Playing(output)
    workspace = Workspace(folder)
    stages, left_out = here(wanted)
    if left_out:
        playing.say(left_out)

    async def play() -> bool:
        told: list[Told] = []
        for stage in stages:
            playing.report(f"stage {stage.value}: {stage.protection}")
            permissive = stage is Stage.MESH
            async with started(stage, workspace, network, permissive=permissive, report=playing.report) as system:
                told.append((stage, await tell(system, lambda part: playing.report(_line(part)))))
                if stage is stages[-1]:
                    _print(playing, told, output)
                if stage is stages[-1] and not once:
                    playing.console.print("everything keeps running; Ctrl-C stops it")
                    for line in screen.how_to_ask(stage, workspace):
                        playing.console.print(line, highlight=False, soft_wrap=True)
                    await playing.watch(system, coordinator=stage is Stage.CONFIDENTIAL)
        return all(part.good for _, parts in told for part in parts)

    return await playing.run(play())


def _line(part: Outcome) -> str:
    return f"{'ok' if part.good else 'WRONG'}: {part.part}"


def _print(playing: Playing, told: Sequence[Told], output: OutputFormat) -> None:
    playing.console.print(screen.outcomes(told))
    if output is OutputFormat.JSON:
        rows = [
            {"stage": stage.value, "part": p.part, "expected": p.expected, "ended": p.ended, "good": p.good}
            for stage, parts in told
            for p in parts
        ]
        typer.echo(json.dumps({"outcomes": rows}))
    playing.finishing = True


def command(
    *,
    once: Annotated[bool, typer.Option("--once", help="Tell the story, then stop everything.")] = False,
    stage: Annotated[Stage | None, typer.Option(help="Only this one; without it, one after the other.")] = None,
    folder: FolderOption = DEFAULT_FOLDER,
    network: NetworkOption = DEFAULT_NETWORK,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Run the bookstore on this machine: unprotected, in a mesh, and confidential; with a thief in each.

    Exit code 0 only if every outcome was as it must be.
    """
    raise typer.Exit(0 if asyncio.run(run(folder, network, stage, once=once, output=output)) else 1)
