"""`cbs policy deny`: take away what FROM may do with TO, at the sidecars, inside the marbles, or both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption
from cli.policy_allow import LayerOption, apply, chosen, report
from cli.policy_changes import Edits
from cli.policy_explain import FromArgument, MethodArgument, ToArgument
from cli.policy_layers import MeshOption, PolicyFolder, SmiOption
from cli.policy_names import Request, find_request, find_service, methods_of
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.smi import editing
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import HttpRule, MeshConfig, Service


def denying(source: str, destination: str, method: str) -> Callable[[PolicyFolder], Edits]:
    """The edit for one folder."""

    def edit(folder: PolicyFolder) -> Edits:
        caller = find_service(folder.documents, source, str(folder.path))
        called = find_service(folder.documents, destination, str(folder.path))
        edits: dict[str, str | None] = dict(editing.deny(folder.texts, caller.account, called.account))
        kept = _others(folder, caller, called, find_request(called, method)) if method else []
        for request in kept:
            texts = folder.changed(edits).texts
            edits |= editing.allow(texts, caller.account, called.account, request.path, method=request.method)
        return edits

    return edit


def _others(folder: PolicyFolder, caller: Service, called: Service, denied: Request) -> list[Request]:
    """What stays allowed when one method is taken away: targets name the source for all that they grant.

    Raises:
        ConfigurationError: it cannot be said method by method.
    """
    policy = Policy(replace(folder.documents, config=MeshConfig()))  # what permissive mode lets through is not granted
    rules = [rule for target in policy.between(caller.account, called.account) for rule in target.rules]
    with_headers = [rule for rule in rules if isinstance(rule, HttpRule) for match in rule.matches if match.headers]
    if with_headers or not methods_of(called):
        raise ConfigurationError(
            "one method cannot be taken out of these rules, which look at headers or at methods nobody knows",
            got=with_headers[0].origin if with_headers else called.key,
            hint="edit the file, or leave METHOD out",
        )
    allowed = (
        each
        for each in methods_of(called)
        if policy.allow(caller.account, called.account, called.port, each.method, each.path).allowed
    )
    return [each for each in allowed if each != denied]


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
    """Take FROM out of every rule for TO; with METHOD, it keeps the other methods that it has. Waits for the mesh.

    At the marbles' layer the manifest is updated, as the context's user.
    """
    found = chosen(target, layer, mesh, smi)
    done = apply(target, found, denying(source, destination, method))
    report(target, found, (source, destination, method), done, output)
