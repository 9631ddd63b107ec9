"""`cbs policy allow`: let FROM do something with TO, at the sidecars, inside the marbles, or both."""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption
from cli.policy_changes import Change, Edits
from cli.policy_explain import FromArgument, MethodArgument, ToArgument, answers, head_of, manifest_policy, show_answers
from cli.policy_layers import Layer, MeshOption, PolicyFolder, SmiOption, folders
from cli.policy_names import find_request, find_service
from confidential_bookstore.errors import BookstoreError, ConfigurationError
from confidential_bookstore.policy.smi import editing


class Layers(enum.StrEnum):
    """The values of `--layer`."""

    MESH = "mesh"
    MARBLES = "marbles"
    BOTH = "both"

    @property
    def one(self) -> Layer | None:
        """None for both."""
        return None if self is Layers.BOTH else Layer(self.value)


LayerOption = Annotated[
    Layers | None,
    typer.Option("--layer", help="Where; without it, at each layer whose folder is known.", show_default=False),
]


def chosen(target: Target, layer: Layers | None, mesh: str | None, smi: str | None) -> list[PolicyFolder]:
    """The folders to change.

    Raises:
        ConfigurationError: one of them is not known.
    """
    found = folders(target.context.override(mesh=mesh, smi=smi), layer.one if layer else None)
    if layer is Layers.BOTH and len(found) < len(Layer):
        raise ConfigurationError(
            "the folder of only one layer is known",
            got=found[0].name,
            hint="--mesh DIR and --smi DIR, or say which: --layer mesh|marbles",
        )
    return found


def apply(target: Target, found: list[PolicyFolder], edit: Callable[[PolicyFolder], Edits]) -> dict[str, object]:
    """Change all of them, marbles first: what is attested counts. Nothing is written before all has been checked.

    Raises:
        PolicyError: a folder would break a rule.
        BookstoreError: as `Change.apply`.
    """
    changes = [Change.of(folder, edit(folder)) for folder in found]
    done: dict[str, object] = {}
    for change in sorted(changes, key=lambda each: each.before.layer is Layer.MESH):
        try:
            done |= change.apply(target)
        except BookstoreError:
            for name, what in done.items():  # it stays
                sys.stderr.write(f"done before the error: {name}: {what}\n")
            raise
    return done


def allowing(source: str, destination: str, method: str) -> Callable[[PolicyFolder], Edits]:
    """The edit for one folder."""

    def edit(folder: PolicyFolder) -> Edits:
        caller = find_service(folder.documents, source, str(folder.path))
        called = find_service(folder.documents, destination, str(folder.path))
        if not method:
            return editing.allow(folder.texts, caller.account, called.account, None)
        wanted = find_request(called, method)
        return editing.allow(folder.texts, caller.account, called.account, wanted.path, method=wanted.method)

    return edit


def report(
    target: Target,
    found: list[PolicyFolder],
    question: tuple[str, str, str],
    done: dict[str, object],
    output: OutputFormat,
) -> None:
    """The answers of `cbs policy explain` afterwards, and what was done."""
    again = [folder.read_again() for folder in found]
    words, policies = manifest_policy(target, again)
    rows = [answer for folder in again for answer in answers(folder, *question, policies)]
    head: dict[str, object] = {f"{name}Folder": value for name, value in head_of(again).items()}
    show_answers(head | done | ({"Manifest": words} if words else {}), rows, output)


@connected
def command(
    target: Target,
    source: FromArgument,
    destination: ToArgument,
    method: MethodArgument = "",
    *,
    layer: LayerOption = None,
    mesh: MeshOption = None,
    smi: SmiOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Let FROM call METHOD of TO; without METHOD, all of TO. Waits until the mesh has taken it.

    At the marbles' layer the manifest is updated, as the context's user.
    """
    found = chosen(target, layer, mesh, smi)
    done = apply(target, found, allowing(source, destination, method))
    report(target, found, (source, destination, method), done, output)
