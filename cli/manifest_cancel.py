"""`cbs manifest cancel`: drop the pending update."""

from __future__ import annotations

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption, show


@connected
def command(target: Target, output: OutputOption = OutputFormat.TEXT) -> None:
    """Cancel the pending update, as a user who may update the manifest."""
    target.api(as_user=True).cancel_update()
    show({"Update": "cancelled"}, output)
