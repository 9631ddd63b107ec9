"""Which secrets a template names, as far as its text shows. What it reaches by other ways is not in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coordinator.manifest.template.nodes import (
    Access,
    Call,
    Choice,
    Definitions,
    Dot,
    Expression,
    Invocation,
    Literal,
    Node,
    Output,
    Pipeline,
    Range,
    Variable,
)


def referenced_secrets(definitions: Definitions) -> frozenset[str]:
    """Names after `.Secrets` and `.Previous.Secrets`, also with `$` before them, and in `index .Secrets "name"`."""
    names = set()
    for path in _paths(definitions):
        match path:
            case ("Secrets", name, *_) | ("Previous", "Secrets", name, *_):
                names.add(name)
    return frozenset(names)


def _paths(definitions: Definitions) -> Iterator[tuple[str, ...]]:
    bodies = [definitions.body, *definitions.templates.values()]
    pending: list[Expression] = [pipeline for body in bodies for pipeline in _pipelines(body)]
    while pending:
        expression = pending.pop()
        match expression:
            case Access():
                if path := _path(expression):
                    yield path
                pending.append(expression.base)
            case Call():
                yield from _indexed(expression)
                pending += expression.arguments
            case Pipeline():
                pending += expression.commands


def _pipelines(body: Iterable[Node]) -> Iterator[Pipeline]:
    pending = [body]
    while pending:
        for node in pending.pop():
            match node:
                case Output():
                    yield node.pipeline
                case Invocation():
                    if node.pipeline is not None:
                        yield node.pipeline
                case Choice():
                    for branch in node.branches:
                        yield branch.condition
                        pending.append(branch.body)
                    pending.append(node.otherwise)
                case Range():
                    yield node.pipeline
                    pending += [node.body, node.otherwise]


def _path(expression: Expression) -> tuple[str, ...] | None:
    """The names that lead from the template's data to this, None if it begins somewhere else."""
    match expression:
        case Dot() | Variable(name="$"):
            return ()
        case Access():
            path = _path(expression.base)
            return None if path is None else (*path, *expression.names)
        case Pipeline(commands=(command,)):
            return _path(command)
        case _:
            return None


def _indexed(call: Call) -> Iterator[tuple[str, ...]]:
    match call:
        case Call(function="index", arguments=(base, Literal(value=bytes() as name), *_)):
            if path := _path(base):
                yield (*path, name.decode(errors="surrogateescape"))
