"""What commands print: named values, as text for people or JSON for programs."""

from __future__ import annotations

import contextlib
import enum
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from confidential_bookstore.owner.connection import printable


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
    else:
        width = max(map(len, values), default=0)
        console = Console(file=file)
        for name, value in values.items():  # the terminal wraps lines, or copied fingerprints would be in pieces
            console.print(Text.assemble((f"{name:<{width}}", "bold"), "  ", _text(value)), soft_wrap=True)
    file.flush()


def show_rows(rows: Sequence[Mapping[str, object]], stream: TextIO | None = None) -> None:
    """Print rows with the same names as a table, for people; nothing if there are none."""
    file: TextIO = sys.stdout if stream is None else stream
    if not rows:
        return
    if file.isatty():
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in rows[0]:
            table.add_column(Text(name, style="bold"), overflow="fold")
        for row in rows:
            table.add_row(*(Text(_text(value)) for value in row.values()))
        Console(file=file).print(table)
        return
    lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)] for line in lines)
    file.writelines("  ".join(cells).rstrip() + "\n" for cells in padded)
    file.flush()


@contextlib.contextmanager
def waiting(text: str) -> Iterator[None]:
    """Says on a terminal that something slow goes on, and takes it back afterwards. Elsewhere it says nothing."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(text):
        yield


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "-"
    if isinstance(value, Mapping):
        return printable(json.dumps(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    return printable(str(value))
