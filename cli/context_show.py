"""`cbs context show`: what a context says."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer
from cryptography.hazmat.primitives.hashes import SHA256

from cli.connecting import contexts_path, read_certificate
from cli.output import OutputFormat, OutputOption, show
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.owner.context import Contexts

NameArgument = Annotated[str, typer.Argument(help="A context; without it, the current one.", metavar="[NAME]")]


def chosen(contexts: Contexts, name: str) -> str:
    """The name, or that of the current context.

    Raises:
        ConfigurationError: there is no such context.
    """
    name = name or contexts.current
    if not name:
        raise ConfigurationError("there is no context yet", hint="make one: `cbs context set NAME --coordinator ...`")
    contexts.named(name)
    return name


def describe(contexts: Contexts, name: str) -> dict[str, object]:
    """What is given in the context, and the root certificate that was verified."""
    fields = dataclasses.asdict(contexts.named(name))
    pinned = contexts.pinned_root(name)
    return {
        "Context": name,
        "Current": name == contexts.current,
        **{_title(field): value for field, value in fields.items() if value},
        "VerifiedRootSHA256": read_certificate(pinned).fingerprint(SHA256()).hex() if pinned.exists() else None,
    }


def _title(field: str) -> str:
    return field.upper() if field in ("pccs", "smi") else field.title().replace("_", "")


def command(name: NameArgument = "", output: OutputOption = OutputFormat.TEXT) -> None:
    """Show a context."""
    contexts = Contexts.load(contexts_path())
    show(describe(contexts, chosen(contexts, name)), output)
