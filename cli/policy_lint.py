"""`cbs policy lint`: every mistake in a folder of policy, and what is allowed but hardly meant."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption, show
from cli.policy_layers import MeshOption, SmiOption
from cli.policy_names import methods_of
from confidential_bookstore.errors import ConfigurationError, PolicyError
from confidential_bookstore.policy.smi.model import Documents, HttpRule, Service
from confidential_bookstore.policy.smi.model import Target as TrafficTarget
from confidential_bookstore.policy.smi.reading import check_texts, folder_texts, read_texts
from confidential_bookstore.policy.smi.resolving import sealed
from mesh.folder import POLICY


def mistakes(folder: Path) -> list[PolicyError]:
    """All of them; those that show only where sidecars see attested TLS come when there are no others.

    Raises:
        ConfigurationError: the folder cannot be read.
    """
    try:
        texts = folder_texts(folder)
    except PolicyError as error:
        return [error]
    if found := check_texts(texts):
        return found
    try:
        sealed(read_texts(texts))
    except PolicyError as error:
        return [error]
    return []


def warnings(documents: Documents) -> Iterator[str]:
    """Each with file and line."""
    config = documents.config
    if config.permissive:
        yield f"{config.origin}: permissive mode: sidecars let everybody in the mesh call everything"
    if config.egress:
        yield f"{config.origin}: egress: what is no service can be reached"
    for target in sorted(documents.targets.values(), key=lambda each: (each.origin.file, each.origin.line)):
        yield from _of_target(target, documents)
    marbles = {key for key, each in documents.services.items() if each.marble}
    for split in documents.splits.values():
        names = {split.root, *(backend.service for backend in split.backends)}
        if names & marbles and (split.matches or not names <= marbles):
            why = "matches" if split.matches else "backends that are no marbles"
            yield f"{split.origin}: a split with {why} is not followed where traffic is attested TLS"


def _of_target(target: TrafficTarget, documents: Documents) -> Iterator[str]:
    called = [each for each in documents.services.values() if each.account == target.destination]
    marbles = {each.account for each in documents.services.values() if each.marble}
    requests = [rule for rule in target.rules if isinstance(rule, HttpRule)]
    for rule in requests:
        yield from _matches(rule, called)
    if target.destination in marbles:
        if not requests:
            yield f"{target.origin}: the destination is a marble, and without an HTTPRouteGroup it refuses every call"
        for source in target.sources:
            if source not in marbles:
                yield f"{target.origin}: {source} is no marble, so marble {target.destination} does not let it in"


def _matches(rule: HttpRule, called: list[Service]) -> Iterator[str]:
    """A match that fits no known method is a misspelt one."""
    known = [request.path for service in called for request in methods_of(service)]
    for match in rule.matches:
        if match.path is None:
            yield f"{rule.origin}: match {match.name} has no path, so it grants every method"
        elif known and not any(match.path.matches(path) for path in known):
            yield f"{rule.origin}: match {match.name} fits no method of the destination: {match.path.text}"


@connected
def command(
    target: Target,
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of SMI documents; without it, the context's.", metavar="[DIR]")
    ] = None,
    mesh: MeshOption = None,
    smi: SmiOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """Check policy offline: every mistake with file, line, document and field, and advice.

    Exit code 1 if there is any.
    """
    context = target.context.override(mesh=mesh, smi=smi)
    given = [Path(context.mesh) / POLICY if context.mesh else None, Path(context.smi) if context.smi else None]
    chosen = [folder] if folder is not None else [each for each in given if each]
    if not chosen:
        raise ConfigurationError("which folder?", hint="cbs policy lint DIR, or --mesh DIR and --smi DIR")
    found: dict[str, dict[str, list[str]]] = {}
    for each in chosen:
        wrong = mistakes(each)
        unwise = [] if wrong else list(dict.fromkeys(warnings(read_texts(folder_texts(each)))))
        texts = [f"{error} ({error.hint})" if error.hint else str(error) for error in wrong]
        found[str(each)] = {"Mistakes": texts, "Warnings": unwise}
    if output is OutputFormat.JSON:
        sys.stdout.write(json.dumps({"Folders": found}) + "\n")
    else:
        for name, result in found.items():
            show({"Folder": name, "Mistakes": len(result["Mistakes"]), "Warnings": len(result["Warnings"])}, output)
            for text in (*result["Mistakes"], *result["Warnings"]):
                sys.stdout.write(f"  {text}\n")
    if any(result["Mistakes"] or result["Warnings"] for result in found.values()):
        raise typer.Exit(1)
