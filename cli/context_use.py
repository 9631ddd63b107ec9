"""`cbs context use`: make a context the current one."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.connecting import contexts_path
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.owner.context import Contexts


def command(
    name: Annotated[str, typer.Argument(help="A context.", metavar="NAME")], output: OutputOption = OutputFormat.TEXT
) -> None:
    """Use a context from now on."""
    contexts = Contexts.load(contexts_path())
    contexts.named(name)
    contexts.current = name
    contexts.save()
    show({"Current": name}, output)
