"""All functions of templates by name: Go's builtins and MarbleRun's encodings.

They raise `Unsuitable`, to which the evaluator adds the place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from coordinator.manifest.template import comparison, encodings, escapes, formatting, printing, sequences
from coordinator.manifest.template.values import TemplateKind, Unsuitable, Value, truth, type_name

_EVERYWHERE = frozenset(TemplateKind)


@dataclass(frozen=True, slots=True)
class Function:
    """A function, how many arguments it takes (`maximum` None: any number), and the kinds of templates that have it."""

    apply: Callable[[Sequence[Value]], Value]
    minimum: int
    maximum: int | None
    kinds: frozenset[TemplateKind] = _EVERYWHERE


def _of_one(function: Callable[[Value], Value], kinds: frozenset[TemplateKind] = _EVERYWHERE) -> Function:
    return Function(lambda arguments: function(arguments[0]), 1, 1, kinds)


def _escape(escape: Callable[[bytes], bytes]) -> Function:
    return Function(lambda arguments: escape(printing.text_of(arguments)), 0, None)


def _first(arguments: Sequence[Value], *, wanted: bool) -> Value:
    """The first argument that is true (or false), else the last one."""
    return next((value for value in arguments if truth(value) is wanted), arguments[-1])


def _call(arguments: Sequence[Value]) -> Value:
    # No value of a template is a function, so Go's `call` has nothing to call.
    raise Unsuitable(f"non-function of type {type_name(arguments[0])}")


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        "pem": _of_one(encodings.pem),
        "hex": _of_one(encodings.hexadecimal),
        "base64": _of_one(encodings.base_64),
        "raw": _of_one(encodings.secret_bytes, frozenset({TemplateKind.FILE})),
        "string": _of_one(encodings.string, frozenset({TemplateKind.ENV})),
        # The evaluator stops at the argument that decides, as Go does; the result is the same.
        "and": Function(lambda arguments: _first(arguments, wanted=False), 1, None),
        "or": Function(lambda arguments: _first(arguments, wanted=True), 1, None),
        "not": _of_one(lambda value: not truth(value)),
        "len": _of_one(sequences.length),
        "index": Function(sequences.index, 1, None),
        "slice": Function(sequences.part, 1, None),
        "call": Function(_call, 1, None),
        "print": Function(printing.joined, 0, None),
        "println": Function(printing.line, 0, None),
        "printf": Function(formatting.printf, 1, None),
        "html": _escape(escapes.html),
        "js": _escape(escapes.java_script),
        "urlquery": _escape(escapes.url_query),
        "eq": Function(comparison.equal, 1, None),
        "ne": Function(comparison.unequal, 2, 2),
        "lt": Function(comparison.less, 2, 2),
        "le": Function(comparison.less_or_equal, 2, 2),
        "gt": Function(comparison.greater, 2, 2),
        "ge": Function(comparison.greater_or_equal, 2, 2),
    }
)
