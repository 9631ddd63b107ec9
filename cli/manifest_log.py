"""`cbs manifest log`: how the deployment has changed."""

from __future__ import annotations

import json
import sys

from cli.connecting import Target, connected
from cli.files import OutOption, write_or_print
from cli.output import OutputFormat, OutputOption
from confidential_bookstore.owner.connection import printable


@connected
def command(target: Target, out: OutOption = None, output: OutputOption = OutputFormat.TEXT) -> None:
    """Get the update log: one JSON object per line, or all of them as one list."""
    lines = target.api().update_log()
    if output is OutputFormat.JSON:
        text = json.dumps([_parsed(line) for line in lines]) + "\n"
    else:
        terminal = out is None and sys.stdout.isatty()
        text = "".join(f"{printable(line) if terminal else line}\n" for line in lines)
    write_or_print(text.encode(), out)


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return line
