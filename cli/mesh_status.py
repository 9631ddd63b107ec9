"""`cbs mesh status`: what is in force, which sidecars run, who was refused by which rule."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from cli.mesh_run import DEFAULT_FOLDER, FolderArgument
from cli.output import OutputFormat, OutputOption
from mesh.folder_lock import is_held
from mesh.state import read_state


def command(folder: FolderArgument = DEFAULT_FOLDER, *, output: OutputOption = OutputFormat.TEXT) -> None:
    """Show what the mesh of a folder does. Exit code 1: it or a sidecar does not run, or its policy was not taken."""
    state = {"running": is_held(folder), **read_state(folder)}
    if output is OutputFormat.JSON:
        typer.echo(json.dumps(state))
    else:
        _show(state)
    ready = state["version"] and all(each["ready"] for each in state["sidecars"].values())
    if state["error"] or not ready or not state["running"]:
        raise typer.Exit(1)


def _show(state: dict[str, Any]) -> None:
    console = Console()
    if not state["running"]:
        console.print("`cbs mesh run` does not run here; this is the last that it wrote", style="red")
    if state["permissive"]:
        console.print("PERMISSIVE MODE: everybody in the mesh may call everything", style="bold red")
    console.print(f"stage {state['stage']}, version {state['version']} in force since {state['inForceSince']}")
    if state["error"]:
        console.print(
            f"not taken since {state['error']['since']}: {state['error']['message']}", style="red", markup=False
        )
    sidecars = _table("sidecars", "service", "state", "process", "restarts", "certificate expires")
    for key, each in state["sidecars"].items():
        ready = "ready" if each["ready"] else "not ready"
        sidecars.add_row(key, ready, str(each["pid"]), str(each["restarts"]), str(each["certificateExpires"]))
    console.print(sidecars)
    refused = _table("refused", "who", "at", "what", "rule", "nearest", "times")
    for each in state["refusals"]:
        rule = f"{each['layer']} {each['rule']}"
        refused.add_row(each["source"], each["destination"], each["what"], rule, each["near"], str(each["count"]))
    console.print(refused)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
