"""The tree of a template. Pipes and parentheses are gone from it: `a | f b` is `f b a`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from confidential_bookstore.errors import TemplateError


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in a template's text, both from 1."""

    line: int
    column: int

    def error(self, message: str, *, hint: str = "") -> TemplateError:
        """An error at this place, ready to be raised."""
        return TemplateError(message, line=self.line, column=self.column, hint=hint)


@dataclass(frozen=True, slots=True)
class Literal:
    """A string (bytes, as Go's strings are) or a whole number."""

    value: bytes | int
    position: Position


@dataclass(frozen=True, slots=True)
class Access:
    """`.Secrets.key`: fields of `base`, or of the template's data if `base` is None. No names: the thing itself."""

    base: Expression | None
    names: tuple[str, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: tuple[Expression, ...]
    position: Position


Expression: TypeAlias = "Literal | Access | Call"


@dataclass(frozen=True, slots=True)
class Text:
    """What stands outside of `{{ }}`, with undecodable bytes as surrogate escapes."""

    text: str


@dataclass(frozen=True, slots=True)
class Output:
    """`{{ expression }}`."""

    expression: Expression


Node: TypeAlias = Text | Output
