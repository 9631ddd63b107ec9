"""`cbs demo`: the whole bookstore on this machine, and the thefts that fail."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.live import Live

from cli.output import OutputFormat, OutputOption
from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from confidential_bookstore.api.bookthief.v1.bookthief_pb2_grpc import BookthiefServiceStub
from demo import screen
from demo.attacks import Outcome
from demo.observation import observe
from demo.story import tell
from demo.system import System
from demo.topology import Topology
from demo.workspace import Workspace

_LOOK_SECONDS = 1.0
_THIEF_SECONDS = 2.0
_PLAIN_WIDTH = 160


async def run(folder: Path, network: str, *, once: bool, output: OutputFormat) -> bool:
    """Start everything, tell the story, and (unless `once`) keep running until a signal comes.

    Returns:
        Whether every outcome was as it must be.
    """
    console = _console(output)
    progress = _progress(console)
    workspace = Workspace(folder)
    topology = Topology(network, workspace.state.resolve(), {})
    stop, told = _stop_signal(), asyncio.Event()

    async def play() -> bool:
        platform = workspace.platform()
        enclaves = await asyncio.to_thread(workspace.enclaves, platform, _unless_stopped(stop, progress))
        async with System(workspace, topology, platform, enclaves, report=progress) as system:
            parts = await tell(system, lambda part: progress(_line(part)))
            _print(console, parts, output)
            told.set()
            if not once:
                console.print("everything keeps running; Ctrl-C stops it")
                console.print(f"ask as its owner, elsewhere: CBS_CONTEXT={workspace.owner.contexts} cbs verify\n")
                await _watch(console, topology, stop)
                progress("stopping")
        return all(part.good for part in parts)

    playing = asyncio.create_task(play())
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait({playing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if stop.is_set() and not told.is_set():  # once all is told, `_watch` sees the signal itself
        progress("stopping")
        playing.cancel()
    await asyncio.wait({playing})
    return not playing.cancelled() and playing.result()


def _console(output: OutputFormat) -> Console:
    """For people: on stderr when stdout is for a program; wide where no terminal limits it."""
    to_stderr = output is OutputFormat.JSON
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(stderr=to_stderr, width=None if stream.isatty() else _PLAIN_WIDTH)


def _progress(console: Console) -> Callable[[str], None]:
    started = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - started:5.1f} s  {text}", highlight=False, markup=False)

    return say


def _line(part: Outcome) -> str:
    return f"{'ok' if part.good else 'WRONG'}: {part.part}"


def _print(console: Console, parts: list[Outcome], output: OutputFormat) -> None:
    console.print(screen.outcomes(parts))
    if output is OutputFormat.JSON:
        rows = [{"part": p.part, "expected": p.expected, "ended": p.ended, "good": p.good} for p in parts]
        typer.echo(json.dumps({"outcomes": rows}))


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _unless_stopped(stop: asyncio.Event, say: Callable[[str], None]) -> Callable[[str], None]:
    """The same report, which ends the work in another thread once the signal has come."""

    def report(text: str) -> None:
        if stop.is_set():
            raise asyncio.CancelledError
        say(text)

    return report


async def _watch(console: Console, topology: Topology, stop: asyncio.Event) -> None:
    """The live tables on a terminal; elsewhere, nothing more is printed until the signal comes."""
    if not console.is_terminal:
        console.print(screen.addresses(topology))
        await stop.wait()
        return
    async with grpc.aio.insecure_channel(topology.address("bookthief")) as channel:
        thief = BookthiefServiceStub(channel)
        with Live(console=console, auto_refresh=False) as live:
            while not stop.is_set():
                live.update(screen.dashboard(await observe(topology), await _thefts(thief), topology), refresh=True)
                await _pause(stop)


async def _thefts(thief: BookthiefServiceStub) -> list[bookthief_pb2.Attempts]:
    try:
        answer = await thief.GetThefts(bookthief_pb2.GetTheftsRequest(), timeout=_THIEF_SECONDS)
    except grpc.aio.AioRpcError:
        return []
    return list(answer.thefts.attempts)


async def _pause(stop: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stop.wait(), _LOOK_SECONDS)
    except TimeoutError:
        return


def command(
    *,
    once: Annotated[bool, typer.Option("--once", help="Tell the story, then stop everything.")] = False,
    folder: Annotated[Path, typer.Option("--run-dir", help="Keys, enclaves, state and logs.")] = Path(".run"),
    network: Annotated[
        str, typer.Option(help="First three numbers of the loopback addresses to use.", metavar="127.x.y")
    ] = "127.0.0",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Run the confidential bookstore on this machine. Exit code 0 only if every outcome was as it must be."""
    raise typer.Exit(0 if asyncio.run(run(folder, network, once=once, output=output)) else 1)
