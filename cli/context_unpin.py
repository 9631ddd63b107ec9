"""`cbs context unpin`: forget the root certificate that was verified."""

from __future__ import annotations

from cli.connecting import contexts_path
from cli.context_show import NameArgument, chosen
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.owner.context import Contexts


def command(name: NameArgument = "", output: OutputOption = OutputFormat.TEXT) -> None:
    """Forget the verified root of a deployment that was set up anew. The next command verifies its quote again."""
    contexts = Contexts.load(contexts_path())
    name = chosen(contexts, name)
    pinned = contexts.pinned_root(name)
    known = pinned.exists()
    pinned.unlink(missing_ok=True)
    show({"Context": name, "Forgotten": known}, output)
