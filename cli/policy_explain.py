"""`cbs policy explain`: may FROM do this with TO, by which rule, and where is that written?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption, show, show_rows
from cli.policy_layers import Layer, MeshOption, PolicyFolder, SmiOption, folders, in_force
from cli.policy_names import Request, find_request, find_service, methods_of
from confidential_bookstore.errors import CoordinatorRefused, CoordinatorUnavailable
from confidential_bookstore.owner.effective import effective_manifest
from confidential_bookstore.owner.policy_update import MarblePolicy, compiled, policy_in
from confidential_bookstore.policy.access import Decision

FromArgument = Annotated[
    str, typer.Argument(help="Who calls: name.namespace, or a name that only one has.", metavar="FROM")
]
ToArgument = Annotated[str, typer.Argument(help="Who is called.", metavar="TO")]
MethodArgument = Annotated[
    str, typer.Argument(help="A method's path, Service/Method, or its name.", metavar="[METHOD]", show_default=False)
]
CONNECT = "(connect)"
_IN_FORCE = "in force"


@dataclass(frozen=True, slots=True)
class Answer:
    """One layer's answer to one question. `where` is empty if no line of a file grants it."""

    layer: str
    what: str
    decision: Decision
    where: str = ""
    near: tuple[str, ...] = ()

    def row(self) -> dict[str, object]:
        """For people."""
        allowed = "allowed" if self.decision.allowed else "denied"
        return {"LAYER": self.layer, "WHAT": self.what, "": allowed, "RULE": self.decision.rule, "WHERE": self.where}


def answers(
    folder: PolicyFolder, source: str, destination: str, method: str, manifest: dict[str, MarblePolicy] | None
) -> list[Answer]:
    """One layer's answers: to the method, or without one to the connection and to every method.

    Raises:
        ConfigurationError: FROM, TO or METHOD is not known in this layer's folder.
    """
    caller = find_service(folder.documents, source, str(folder.path))
    called = find_service(folder.documents, destination, str(folder.path))
    asked: Sequence[Request | None] = [find_request(called, method)] if method else [None, *methods_of(called)]
    found: list[Answer] = []
    for request in asked:
        what = CONNECT if request is None else str(request)
        explained = folder.explain(caller, called, request)
        if explained is None:
            continue
        where = str(explained.origin) if explained.origin else ""
        found.append(Answer(folder.layer, what, explained.decision, where, explained.near))
        if folder.layer is Layer.MARBLES and manifest is not None and called.marble in manifest:
            decision = in_force(manifest[called.marble].rules, caller, called, request)
            if decision != explained.decision:
                found.append(Answer(f"{folder.layer}, {_IN_FORCE}", what, decision))
    return found


def allowed(found: Iterable[Answer]) -> bool:
    """Whether there is something that every layer lets through; a connection alone counts if nothing else is asked."""
    by_question: dict[str, bool] = {}
    for answer in found:
        by_question[answer.what] = by_question.get(answer.what, True) and answer.decision.allowed
    requests = {what: fine for what, fine in by_question.items() if what != CONNECT}
    return any((requests or by_question).values())


def manifest_policy(target: Target, folders_: Sequence[PolicyFolder]) -> tuple[str, dict[str, MarblePolicy] | None]:
    """What the manifest in force says, if there is a coordinator that can be asked, and in words how that compares.

    Raises:
        CoordinatorUntrusted: it is another one, or its manifest is not signed by its root.
        ConfigurationError: there is nothing to know it by.
    """
    folder = next((each for each in folders_ if each.layer is Layer.MARBLES), None)
    if folder is None or not target.context.coordinator:
        return "not asked: no coordinator" if folder else "", None
    try:
        api = target.api()
        policies = policy_in(effective_manifest(api.manifest(), api.update_log()))
    except (CoordinatorUnavailable, CoordinatorRefused) as error:
        return f"not known: {error}", None
    return compare(compiled(folder.documents), policies), policies


def compare(folder: dict[str, MarblePolicy], manifest: dict[str, MarblePolicy]) -> str:
    """In words."""
    differences = [f"{name} is in one of them only" for name in sorted(folder.keys() ^ manifest.keys())]
    for name in sorted(folder.keys() & manifest.keys()):
        differences += [f"{name} has another {variable}" for variable in folder[name].differs_in(manifest[name])]
    return f"DIFFERS: {', '.join(differences)}" if differences else "says the same"


def show_answers(head: dict[str, object], found: Sequence[Answer], output: OutputFormat) -> None:
    """Print them, and what was nearly meant where something is denied."""
    if output is OutputFormat.JSON:
        written: list[dict[str, Any]] = [
            {
                "Layer": each.layer,
                "What": each.what,
                "Allowed": each.decision.allowed,
                "Rule": each.decision.rule,
                "Where": each.where,
                "Near": list(each.near),
            }
            for each in found
        ]
        sys.stdout.write(json.dumps({**head, "Decisions": written}, default=str) + "\n")
        return
    show(head, output)
    sys.stdout.write("\n")
    show_rows([each.row() for each in found])
    notes = dict.fromkeys(f"{each.layer}: {near}" for each in found for near in each.near)
    if notes:
        sys.stdout.write("\n")
    for note in notes:
        sys.stdout.write(f"{note}\n")


def head_of(found: Sequence[PolicyFolder]) -> dict[str, object]:
    """Which folders were looked at, by layer."""
    return {each.layer.title(): f"{each.path}" + (f", stage {each.stage}" if each.stage else "") for each in found}


@connected
def command(
    target: Target,
    source: FromArgument,
    destination: ToArgument,
    method: MethodArgument = "",
    *,
    mesh: MeshOption = None,
    smi: SmiOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """May FROM call METHOD of TO? Says by which rule, file and line, at the sidecar and in the marble.

    Without METHOD: may it connect, and which methods may it call?

    Exit code 0: allowed at both; without METHOD, at least one method is. 1: denied at one of them.
    """
    layers = folders(target.context.override(mesh=mesh, smi=smi))
    words, policies = manifest_policy(target, layers)
    found = [answer for folder in layers for answer in answers(folder, source, destination, method, policies)]
    show_answers(head_of(layers) | ({"Manifest": words} if words else {}), found, output)
    if not allowed(found):
        raise typer.Exit(1)
