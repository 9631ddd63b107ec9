"""A parsed template, ready to be rendered any number of times."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.manifest.template.bounds import Bounds
from coordinator.manifest.template.functions import FUNCTIONS
from coordinator.manifest.template.nodes import Definitions, Position
from coordinator.manifest.template.parser import parse
from coordinator.manifest.template.references import referenced_secrets
from coordinator.manifest.template.runner import render_definitions
from coordinator.manifest.template.values import Namespace, TemplateKind


@dataclass(frozen=True, slots=True)
class Template:
    """A tree and the templates that it defines."""

    definitions: Definitions = field(repr=False)

    def references(self) -> frozenset[str]:
        """Names of the secrets that its text shows, of the current and the previous generation; best effort."""
        return referenced_secrets(self.definitions)

    def render(self, data: Namespace, kind: TemplateKind, whole: Bounds | None = None) -> bytes:
        """The bytes of a file, or of an environment variable. `whole` bounds several renderings together.

        Raises:
            TemplateError: it calls a function that this kind does not have, something it names does not exist or
                cannot be used as it is, or it does more than one rendering may. What the mappings of the data raise
                passes through.
        """
        for call in self.definitions.calls:
            kinds = FUNCTIONS[call.function].kinds
            if kind not in kinds:
                (only,) = kinds
                raise call.position.error(
                    f"function {call.function!a} not defined",
                    hint=f"it exists in {only.value} only, not in {kind.value}",
                )
        return render_definitions(self.definitions, data, whole)


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
        raise Position(before.count("\n") + 1, error.start - before.rfind("\n")).error(
            "text has half of a surrogate pair"
        ) from None
    return Template(parse(text))
