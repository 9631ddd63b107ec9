"""`cbs platform init`: make the keys of a simulated platform."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.platform_file import ROOT_FILE
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform


def initialise(directory: Path) -> dict[str, object]:
    """Do the work; what is returned is what the command prints.

    Raises:
        ConfigurationError: a platform is there already, or the directory cannot be written.
    """
    platform = SimulatedPlatform.create()
    platform.save(directory)
    return {
        "Platform": directory,
        "Root": directory / ROOT_FILE,
        "RootKeyID": TrustRoot.from_pem(platform.root_pem).key_id,
    }


def command(
    directory: Annotated[Path, typer.Argument(help="A folder that has no platform yet.", metavar="DIR")],
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Make a simulated platform. Whoever can read its folder can forge a CPU."""
    show(initialise(directory), output)
