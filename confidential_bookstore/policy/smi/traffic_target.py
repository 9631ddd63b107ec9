"""TrafficTarget: which service accounts may do what with another one.

OSM opens a service to everybody if `sources` is empty, and ignores a rule whose group does not exist; here, both are
errors. A rule without `matches` means all matches of its group.
"""

from __future__ import annotations

from dataclasses import dataclass

from confidential_bookstore.policy.smi.documents import Document
from confidential_bookstore.policy.smi.fields import Field
from confidential_bookstore.policy.smi.model import Account

API_VERSIONS = ("access.smi-spec.io/v1alpha3",)
_ACCOUNT = "ServiceAccount"
_RULES = ("HTTPRouteGroup", "TCPRoute")


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """A rule before its name is looked up. `matches` by name, with their fields; None means all."""

    kind: str
    name: Field
    matches: dict[str, Field] | None
    whole: Field


@dataclass(frozen=True, slots=True)
class WrittenTarget:
    """A target before its names are looked up; accounts with the fields that name them."""

    document: Document
    destination: tuple[Account, Field]
    sources: tuple[tuple[Account, Field], ...]
    rules: tuple[WrittenRule, ...]


def read_target(document: Document) -> WrittenTarget:
    """The target.

    Raises:
        PolicyError: it has another form.
    """
    spec = document.spec.map(("destination", "sources", "rules"))
    destination = _account(spec["destination"], document.namespace)
    if destination.namespace != document.namespace:
        raise spec["destination"].error(
            "the destination is in another namespace than the target",
            got=destination.namespace,
            expected=document.namespace,
        )
    sources: dict[Account, Field] = {}
    for entry in spec["sources"].list():
        account = _account(entry, document.namespace)
        if account in sources:
            raise entry.error("stands there twice", got=account)
        sources[account] = entry
    rules = tuple(_rule(entry) for entry in spec["rules"].list())
    return WrittenTarget(document, (destination, spec["destination"]), tuple(sources.items()), rules)


def _account(field: Field, namespace: str) -> Account:
    fields = field.map(("kind", "name"), ("namespace",))
    fields["kind"].one_of([_ACCOUNT])
    own = fields["namespace"].label() if "namespace" in fields else namespace
    return Account(fields["name"].label(), own)


def _rule(field: Field) -> WrittenRule:
    fields = field.map(("kind", "name"), ("matches",))
    kind = fields["kind"].text()
    if kind not in _RULES:
        why = "is not enforced by anybody here" if kind == "UDPRoute" else "is no kind of rule"
        raise fields["kind"].error(why, got=kind, expected=" or ".join(_RULES))
    fields["name"].name()
    matches: dict[str, Field] | None = None
    if "matches" in fields:
        if kind == "TCPRoute":
            raise fields["matches"].error("a TCPRoute has no matches with names")
        matches = {}
        for entry in fields["matches"].list():
            if matches.setdefault(entry.title(), entry) is not entry:
                raise entry.error("stands there twice", got=entry.text())
    return WrittenRule(kind, fields["name"], matches, field)
