"""What `cbs demo` and `cbs up` have in common: a console, progress, the signal that stops them, the live tables."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from cli.output import OutputFormat
from demo import screen
from demo.observation import thefts
from demo.staging import Running

FolderOption = Annotated[Path, typer.Option("--run-dir", help="Keys, enclaves, state and logs.")]
NetworkOption = Annotated[
    str, typer.Option(help="First three numbers of the loopback addresses to use.", metavar="127.x.y")
]
DEFAULT_FOLDER = Path(".run")
DEFAULT_NETWORK = "127.0.0"
_LOOK_SECONDS = 1.0
_PLAIN_WIDTH = 160


class Playing:
    """Where a stage is shown: what is being done, the tables, and whether it was asked to stop.

    Args:
        output: with JSON, people's text goes to standard error.
    """

    def __init__(self, output: OutputFormat) -> None:
        to_stderr = output is OutputFormat.JSON
        stream = sys.stderr if to_stderr else sys.stdout
        self.console = Console(stderr=to_stderr, width=None if stream.isatty() else _PLAIN_WIDTH)
        self.stop = asyncio.Event()
        self.finishing = False  # from then on, the work itself looks at `stop`
        self._started = time.monotonic()

    def say(self, text: str) -> None:
        """One line, with the time since the start."""
        self.console.print(f"{time.monotonic() - self._started:5.1f} s  {text}", highlight=False, markup=False)

    def report(self, text: str) -> None:
        """The same; ends the work, in whatever thread, once it was asked to stop."""
        if self.stop.is_set():
            raise asyncio.CancelledError
        self.say(text)

    async def run(self, work: Coroutine[None, None, bool]) -> bool:
        """Its result; False if a signal came before it was finishing."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop.set)
        playing = asyncio.create_task(work)
        waiting = asyncio.create_task(self.stop.wait())
        await asyncio.wait({playing, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.stop.is_set() and not self.finishing:
            self.say("stopping")
            playing.cancel()
        await asyncio.wait({playing})
        return not playing.cancelled() and playing.result()

    async def watch(self, system: Running, *, coordinator: bool) -> None:
        """The live tables on a terminal; elsewhere the addresses, once. Until it was asked to stop."""
        self.finishing = True
        if not self.console.is_terminal:
            self.console.print(screen.addresses(system.topology, coordinator=coordinator))
            await self.stop.wait()
        else:
            with Live(console=self.console, auto_refresh=False) as live:
                while not self.stop.is_set():
                    live.update(await _dashboard(system, coordinator=coordinator), refresh=True)
                    await self._pause()
        self.say("stopping")

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self.stop.wait(), _LOOK_SECONDS)
        except TimeoutError:
            return


async def _dashboard(system: Running, *, coordinator: bool) -> RenderableType:
    seen, tried = await asyncio.gather(system.observe(), thefts(system.topology.address("bookthief")))
    return screen.dashboard(seen, tried, system.topology, coordinator=coordinator)
