"""`cbs context list`: all contexts."""

from __future__ import annotations

import json
import sys

from cli.connecting import contexts_path
from cli.output import OutputFormat, OutputOption, show_rows
from confidential_bookstore.owner.context import Contexts


def command(output: OutputOption = OutputFormat.TEXT) -> None:
    """List all contexts."""
    contexts = Contexts.load(contexts_path())
    rows = [
        {
            "CURRENT": name == contexts.current,
            "NAME": name,
            "COORDINATOR": context.coordinator,
            "VERIFIED": contexts.pinned_root(name).exists(),
        }
        for name, context in sorted(contexts.by_name.items())
    ]
    if output is OutputFormat.JSON:
        named = [{key.title(): value for key, value in row.items()} for row in rows]
        sys.stdout.write(json.dumps({"Contexts": named}) + "\n")
        return
    show_rows(rows)
    if not rows:
        sys.stdout.write("there is no context yet; make one: cbs context set NAME --coordinator HOST:PORT ...\n")
