"""`cbs policy list`: who may do what, at each layer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from cli.connecting import Target, connected
from cli.output import OutputFormat, OutputOption, show, show_rows
from cli.policy_explain import head_of
from cli.policy_layers import Layer, MeshOption, PolicyFolder, SmiOption, folders
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.smi.decision import PERMISSIVE
from confidential_bookstore.policy.smi.model import Account, HttpRule, Protocol, TcpRule
from confidential_bookstore.policy.smi.model import Target as TrafficTarget


@dataclass(frozen=True, slots=True)
class Grant:
    """What one rule lets one source do."""

    layer: str
    rule: str
    source: str
    destination: str
    what: tuple[Match | str, ...]
    where: str

    def named(self, *, in_full: bool) -> dict[str, object]:
        """With the names that are printed; in full with what matches match, and not only their names."""
        return {
            "Layer": self.layer,
            "Rule": self.rule,
            "Source": self.source,
            "Destination": self.destination,
            "What": [str(each) if isinstance(each, str) else _words(each, in_full=in_full) for each in self.what],
            "Where": self.where,
        }


def grants(folder: PolicyFolder) -> Iterator[Grant]:
    """All that a layer enforces; what it cannot see, such as a path in attested TLS, is not in it."""
    documents = folder.documents
    if folder.layer is Layer.MESH and documents.config.permissive:
        yield Grant(folder.layer, PERMISSIVE, "everybody", "everything", ("any",), str(documents.config.origin))
    for target in sorted(documents.targets.values(), key=lambda each: each.name):
        for rule in target.rules:
            if not _enforced(folder, target, rule):
                continue
            what = (_ports(rule),) if isinstance(rule, TcpRule) else rule.matches
            for source in target.sources:
                if folder.layer is Layer.MARBLES and not _marbles(folder, source):
                    continue
                origin = f"{rule.origin.file}:{rule.origin.line}"
                yield Grant(folder.layer, target.name, str(source), str(target.destination), what, origin)


def _enforced(folder: PolicyFolder, target: TrafficTarget, rule: HttpRule | TcpRule) -> bool:
    if folder.layer is Layer.MARBLES:
        return isinstance(rule, HttpRule) and bool(_marbles(folder, target.destination))
    services = [each for each in folder.documents.services.values() if each.account == target.destination]
    bytes_only = {each.seen_as is Protocol.TCP for each in services}
    return isinstance(rule, TcpRule) in bytes_only


def _marbles(folder: PolicyFolder, account: Account) -> set[str]:
    return {each.marble for each in folder.documents.services.values() if each.account == account and each.marble}


def _ports(rule: TcpRule) -> str:
    return f"connect to {', '.join(map(str, sorted(rule.ports)))}" if rule.ports else "connect to any port"


def _words(match: Match, *, in_full: bool) -> str:
    if match.name and not in_full:
        return match.name
    methods = ",".join(sorted(match.methods - {"POST"}))
    path = match.path.text if match.path else "any path"
    headers = ", ".join(f"{name}: {pattern.text}" for name, pattern in match.headers)
    return " ".join(filter(None, (methods, path, f"[{headers}]" if headers else "")))


@connected
def command(
    target: Target,
    mesh: MeshOption = None,
    smi: SmiOption = None,
    output: OutputOption = OutputFormat.TEXT,
) -> None:
    """List who may do what: what sidecars enforce, and what marbles do, with file and line."""
    layers = folders(target.context.override(mesh=mesh, smi=smi))
    rows = [grant.named(in_full=output is OutputFormat.JSON) for folder in layers for grant in grants(folder)]
    if output is OutputFormat.JSON:
        sys.stdout.write(json.dumps({**head_of(layers), "Grants": rows}) + "\n")
        return
    show(head_of(layers), output)
    sys.stdout.write("\n")
    show_rows([{name.upper(): value for name, value in row.items()} for row in rows])
    if not rows:
        sys.stdout.write("nobody may do anything\n")
