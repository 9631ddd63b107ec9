"""TrafficSplit: calls to one service, shared among several by weight.

v1alpha2 and v1alpha3 are alike; v1alpha4 adds `matches`, HTTPRouteGroups that say which requests are split. Weights are
whole numbers, relative to their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from confidential_bookstore.policy.smi.documents import Document
from confidential_bookstore.policy.smi.fields import Field

API_VERSIONS = tuple(f"split.smi-spec.io/v1alpha{number}" for number in (2, 3, 4))
_WITH_MATCHES = API_VERSIONS[-1]
_MOST = 1_000_000  # a sum of 100 such fits the 32 bits that Envoy has for it
_BACKENDS = 100


@dataclass(frozen=True, slots=True)
class WrittenSplit:
    """A split before its names are looked up."""

    document: Document
    root: Field
    backends: tuple[tuple[Field, int], ...]
    groups: tuple[Field, ...]


def read_split(document: Document) -> WrittenSplit:
    """The split.

    Raises:
        PolicyError: it has another form, or its weights sum up to nothing.
    """
    more = ("matches",) if document.api_version.text() == _WITH_MATCHES else ()
    spec = document.spec.map(("service", "backends"), more)
    backends: list[tuple[Field, int]] = []
    entries = spec["backends"].list()
    if len(entries) > _BACKENDS:
        raise spec["backends"].error("has too many entries", got=len(entries), expected=f"at most {_BACKENDS}")
    for entry in entries:
        fields = entry.map(("service", "weight"))
        fields["service"].name()
        backends.append((fields["service"], fields["weight"].integer(0, _MOST)))
    if not sum(weight for _, weight in backends):
        raise spec["backends"].error("all weights are 0", expected="a sum above 0")
    groups: list[Field] = []
    for entry in spec["matches"].list() if "matches" in spec else ():
        fields = entry.map(("kind", "name"))
        fields["kind"].one_of(["HTTPRouteGroup"])
        fields["name"].name()
        groups.append(fields["name"])
    spec["service"].name()
    return WrittenSplit(document, spec["service"], tuple(backends), tuple(groups))
