"""The tree of a template: expressions that give values, and nodes that write text or decide what is written.

Parentheses are gone from it where they hold a pipeline (they are that pipeline), trim markers and comments everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    """A string (bytes, as Go's strings are), a number or a boolean; None is the word `nil`."""

    value: bytes | bool | int | float | None
    position: Position


@dataclass(frozen=True, slots=True)
class Dot:
    """`.`, the value that is looked at."""

    position: Position


@dataclass(frozen=True, slots=True)
class Variable:
    """`$` or `$name`, with its dollar sign."""

    name: str
    position: Position


@dataclass(frozen=True, slots=True)
class Access:
    """`.Secrets.key`, `$x.Cert`, `(pipeline).Public`: fields of `base`, one after the other; at least one."""

    base: Expression
    names: tuple[str, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments; in a pipeline, the value before it comes after them."""

    function: str
    arguments: tuple[Expression, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`$x := a | f | g`: all commands but the first are calls. `assigns` says whether it is `=` instead of `:=`."""

    commands: tuple[Expression, ...]
    names: tuple[str, ...]
    assigns: bool
    position: Position


Expression: TypeAlias = "Literal | Dot | Variable | Access | Call | Pipeline"


@dataclass(frozen=True, slots=True)
class Text:
    """What stands outside of `{{ }}`."""

    content: bytes = field(repr=False)
    position: Position


@dataclass(frozen=True, slots=True)
class Output:
    """`{{ pipeline }}`; nothing is written if it names variables."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """What is written if a condition holds."""

    condition: Pipeline
    body: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """`if`, or `with` if `moves_dot`: the first branch that holds, or `otherwise`."""

    branches: tuple[Branch, ...]
    otherwise: tuple[Node, ...]
    moves_dot: bool


@dataclass(frozen=True, slots=True)
class Range:
    """`range`: the body once per element, `otherwise` if there is none."""

    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Break:
    """`break`: leaves the innermost `range`."""

    position: Position


@dataclass(frozen=True, slots=True)
class Continue:
    """`continue`: the next element of the innermost `range`."""

    position: Position


@dataclass(frozen=True, slots=True)
class Invocation:
    """`template "name" pipeline`: another template with the pipeline's value as its dot, or nothing."""

    name: bytes
    pipeline: Pipeline | None
    position: Position


Node: TypeAlias = "Text | Output | Choice | Range | Break | Continue | Invocation"


@dataclass(frozen=True, slots=True)
class Definitions:
    """A parsed text: what it writes itself, the templates it defines by name, and where it calls which function."""

    body: tuple[Node, ...]
    templates: dict[bytes, tuple[Node, ...]]
    calls: tuple[Call, ...]
