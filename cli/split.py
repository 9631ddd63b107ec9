"""`cbs split`: how calls to a service are shared among its versions."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption, show, show_rows
from cli.policy_allow import LayerOption, apply, chosen
from cli.policy_changes import Edits
from cli.policy_explain import head_of
from cli.policy_layers import MeshOption, PolicyFolder, SmiOption
from cli.policy_names import find_service
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.smi import editing

_VERSIONS = ("v1", "v2")


def read_weights(words: Sequence[str], root: str) -> dict[str, int]:
    """Weights by service name: `SERVICE=WEIGHT` each, or two weights for ROOT-v1 and ROOT-v2.

    Raises:
        ConfigurationError: another form, or a service twice.
    """
    if all(word.isdecimal() for word in words):
        if len(words) != len(_VERSIONS):
            raise _form(" ".join(words))
        words = [f"{root}-{version}={word}" for version, word in zip(_VERSIONS, words, strict=True)]
    weights: dict[str, int] = {}
    for word in words:
        name, _, weight = word.partition("=")
        if not name or not (weight.isascii() and weight.isdecimal()) or name in weights:
            raise _form(word)
        weights[name] = int(weight)
    return weights


def _form(got: str) -> ConfigurationError:
    return ConfigurationError("not a split", got=got, expected="V1 V2, or SERVICE=WEIGHT SERVICE=WEIGHT ...")


def rows(folder: PolicyFolder, name: str) -> list[dict[str, object]]:
    """The shares in force in a folder; all to the service itself if it is not split."""
    service = find_service(folder.documents, name, str(folder.path))
    split = folder.documents.splits.get(service.key)
    if split is None:
        return [{"Layer": folder.layer, "Service": service.key, "Backend": service.key, "Share": "100 %", "Where": ""}]
    total = sum(backend.weight for backend in split.backends)
    return [
        {
            "Layer": folder.layer,
            "Service": split.root,
            "Backend": backend.service,
            "Share": f"{100 * backend.weight / total:.4g} %",
            "Where": f"{split.origin.file}:{split.origin.line}",
        }
        for backend in split.backends
    ]


@connected
def command(
    target: Target,
    weights: Annotated[list[str], typer.Argument(help="Two weights, or SERVICE=WEIGHT each.", metavar="WEIGHT...")],
    *,
    service: Annotated[str, typer.Option(help="The service that is asked for.", metavar="SERVICE")] = "bookstore",
    layer: LayerOption = None,
    mesh: MeshOption = None,
    smi: SmiOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Share the calls to a service by weight: `cbs split 50 50`, for bookstore-v1 and bookstore-v2.

    At the marbles' layer the manifest is updated, as the context's user; marbles follow without restart.
    """
    named = read_weights(weights, service)

    def edit(folder: PolicyFolder) -> Edits:
        keys = {find_service(folder.documents, name, str(folder.path)).key: each for name, each in named.items()}
        root = find_service(folder.documents, service, str(folder.path))
        return editing.split(folder.texts, root.key, keys)

    found = chosen(target, layer, mesh, smi)
    done = apply(target, found, edit)
    again = [folder.read_again() for folder in found]
    head: dict[str, object] = {f"{name}Folder": value for name, value in head_of(again).items()} | done
    shares = [row for folder in again for row in rows(folder, service)]
    if output is OutputFormat.JSON:
        sys.stdout.write(json.dumps({**head, "Shares": shares}, default=str) + "\n")
        return
    show(head, output)
    sys.stdout.write("\n")
    show_rows([{name.upper(): value for name, value in row.items()} for row in shares])
