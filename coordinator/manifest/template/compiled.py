"""A parsed template, ready to be rendered any number of times."""

from __future__ import annotations

from dataclasses import dataclass, field

from confidential_bookstore.errors import TemplateError
from coordinator.manifest.template.evaluator import accesses, render_nodes
from coordinator.manifest.template.nodes import Node
from coordinator.manifest.template.parser import parse_nodes
from coordinator.manifest.template.values import Namespace, TemplateKind


@dataclass(frozen=True, slots=True)
class Template:
    """Text and actions in their order."""

    nodes: tuple[Node, ...] = field(repr=False)

    def references(self) -> frozenset[str]:
        """Names of the secrets that it uses, of the current and the previous generation."""
        names = set()
        for access in accesses(self.nodes):
            match access.names:
                case ("Secrets", name, *_) | ("Previous", "Secrets", name, *_) if access.base is None:
                    names.add(name)
        return frozenset(names)

    def render(self, data: Namespace, kind: TemplateKind) -> bytes:
        """The bytes of a file, or of an environment variable.

        Raises:
            TemplateError: something it names does not exist, or cannot be used as it is.
        """
        return render_nodes(self.nodes, data, kind)


def parse_template(text: str) -> Template:
    """Parse a template.

    Args:
        text: bytes that are not UTF-8 stand in it as surrogate escapes and come out unchanged.

    Raises:
        TemplateError: with line and column.
    """
    try:
        text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        before = text[: error.start]
        raise TemplateError(
            "text has half of a surrogate pair",
            line=before.count("\n") + 1,
            column=error.start - before.rfind("\n"),
        ) from None
    return Template(parse_nodes(text))
