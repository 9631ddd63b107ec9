"""`cbs mesh permissive`: whether everybody in the mesh may call everything."""

from __future__ import annotations

import enum
import sys
from typing import Annotated

import typer

from cli.mesh_run import DEFAULT_FOLDER, FolderArgument
from cli.output import OutputFormat, OutputOption, show
from cli.policy_changes import Change
from cli.policy_layers import mesh_folder
from confidential_bookstore.policy.smi import editing

WARNING = "PERMISSIVE MODE: everybody in the mesh may call everything; `cbs mesh permissive off` ends it"


class Switch(enum.StrEnum):
    """The values of the argument."""

    ON = "on"
    OFF = "off"


def command(
    switch: Annotated[Switch, typer.Argument(help="on or off.", show_default=False, metavar="on|off")],
    folder: FolderArgument = DEFAULT_FOLDER,
    *,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Switch permissive mode in the folder's MeshConfig, and wait until that is in force. It never reaches a marble."""
    before = mesh_folder(folder)
    on = switch is Switch.ON
    done = Change.of(before, editing.permissive(before.texts, on)).apply_to_mesh()
    show({"Folder": folder, "Permissive": on, **done}, output)
    if on:
        sys.stderr.write(f"{WARNING}\n")
