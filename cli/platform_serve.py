"""`cbs platform serve`: the simulated platform's PCCS, from which verifiers get collateral."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.attestation.simulation.pccs import start_pccs
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import ConfigurationError


async def serve(directory: Path, listen: str, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `started` is called with the URL.

    Raises:
        ConfigurationError: no platform there, or the address cannot be used.
    """
    host, port = parse_address(listen)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pccs = await start_pccs(SimulatedPlatform.load(directory), host, port)
    try:
        started(pccs.url)
        await stop.wait()
    finally:
        await pccs.close()


def parse_address(address: str) -> tuple[str, int]:
    """HOST:PORT, with brackets around an IPv6 host.

    Raises:
        ConfigurationError: another form.
    """
    host, separator, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (separator and host and port.isascii() and port.isdigit() and int(port) <= 0xFFFF):
        raise ConfigurationError("--listen is malformed", got=repr(address), expected="HOST:PORT")
    return host, int(port)


def command(
    directory: Annotated[Path, typer.Argument(help="The simulated platform's folder.", metavar="DIR")],
    listen: Annotated[str, typer.Option(help="Where to listen; port 0 takes a free one.")] = "127.0.0.1:8081",
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Serve a simulated platform's collateral in the form of Intel's service."""
    asyncio.run(serve(directory, listen, lambda url: show({"PCCS": url}, output)))
