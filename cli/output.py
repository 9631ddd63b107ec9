"""What commands print: named values, as text for people or JSON for programs."""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Mapping
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


class OutputFormat(enum.StrEnum):
    """The values of `--output`."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[OutputFormat, typer.Option("--output", help="How to print the result.")]


def show(values: Mapping[str, object], output: OutputFormat, stream: TextIO | None = None) -> None:
    """Print named values: one per line, or as one JSON object. Text is coloured on a terminal only."""
    file: TextIO = sys.stdout if stream is None else stream
    if output is OutputFormat.JSON:
        file.write(json.dumps(values, default=str) + "\n")
    elif file.isatty():
        table = Table.grid(padding=(0, 2))
        for name, value in values.items():
            table.add_row(Text(name, style="bold"), Text(_text(value), overflow="fold"))
        Console(file=file).print(table)
    else:
        width = max(map(len, values), default=0)
        file.writelines(f"{name:<{width}}  {_text(value)}\n" for name, value in values.items())
    file.flush()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
