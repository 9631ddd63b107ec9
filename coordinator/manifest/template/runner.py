"""Nodes to bytes: which are written, how often, and with what as their dot.

What runs inside of what is kept in a list of frames instead of by recursion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coordinator.manifest.template.bounds import MAX_CALL_DEPTH, Bounds, check_size
from coordinator.manifest.template.evaluator import Context, evaluate_pipeline
from coordinator.manifest.template.nodes import (
    Break,
    Choice,
    Continue,
    Definitions,
    Invocation,
    Node,
    Output,
    Pipeline,
    Position,
    Range,
    Text,
)
from coordinator.manifest.template.printing import printed
from coordinator.manifest.template.scope import Scope
from coordinator.manifest.template.sequences import elements
from coordinator.manifest.template.values import Namespace, Nil, SecretMap, Unsuitable, Value, truth


def render_definitions(definitions: Definitions, data: Namespace, whole: Bounds | None = None) -> bytes:
    """Render a template. `whole` counts its steps together with those of others.

    Raises:
        TemplateError: something it names does not exist, cannot be used as it is, or the template does too much.
    """
    runner = _Runner(definitions.templates, whole)
    runner.run(definitions.body, data)
    return bytes(runner.rendered)


@dataclass(slots=True)
class _Loop:
    """A `range` and the elements that are left."""

    node: Range
    elements: Iterator[tuple[Value, Value]]
    mark: int  # of the variables before those of one iteration


@dataclass(slots=True)
class _Frame:
    """Nodes that are being run."""

    nodes: Iterator[Node]
    context: Context
    mark: int  # of the variables that stay when it is left
    loop: _Loop | None = None
    is_call: bool = False


class _Runner:
    def __init__(self, templates: Mapping[bytes, tuple[Node, ...]], whole: Bounds | None) -> None:
        self.rendered = bytearray()
        self._templates = templates
        self._bounds = Bounds(whole=whole)
        self._frames: list[_Frame] = []
        self._calls = 0

    def run(self, body: tuple[Node, ...], data: Namespace) -> None:
        self._frames.append(_Frame(iter(body), Context(data, Scope(data)), 0))
        while self._frames:
            frame = self._frames[-1]
            node = next(frame.nodes, None)
            if node is not None:
                self._run_node(node, frame.context)
            elif frame.loop is None or not self._iterate(frame, frame.loop):
                self._leave()

    def _run_node(self, node: Node, context: Context) -> None:
        match node:
            case Text():
                self._bounds.step(node.position)
                self._write(node.content, node.position)
            case Output():
                value = self._evaluate(node.pipeline, context)
                if not node.pipeline.names:
                    self._print(value, node.pipeline.position)
            case Choice():
                self._choose(node, context)
            case Range():
                self._range(node, context)
            case Invocation():
                self._invoke(node, context)
            case Break():
                self._unwind(node.position)
                self._leave()
            case Continue():
                self._unwind(node.position)

    def _evaluate(self, pipeline: Pipeline, context: Context) -> Value:
        self._bounds.step(pipeline.position)
        return evaluate_pipeline(pipeline, context, self._bounds)

    def _print(self, value: Value, position: Position) -> None:
        try:
            text = printed(value)
        except Unsuitable as reason:
            raise position.error(reason.reason, hint=reason.hint) from None
        self._write(text, position)

    def _write(self, data: bytes, position: Position) -> None:
        self.rendered += data
        check_size(len(self.rendered), position)

    def _choose(self, choice: Choice, context: Context) -> None:
        mark = context.scope.mark()
        for branch in choice.branches:
            value = self._evaluate(branch.condition, context)
            if truth(value):
                inside = Context(value, context.scope) if choice.moves_dot else context
                self._frames.append(_Frame(iter(branch.body), inside, mark))
                return
        self._frames.append(_Frame(iter(choice.otherwise), context, mark))

    def _range(self, node: Range, context: Context) -> None:
        """Enter the loop before its first element, or run its else with what it was given in its variables."""
        scope = context.scope
        outside = scope.mark()
        value = self._evaluate(node.pipeline, context)
        names = node.pipeline.names
        position = node.pipeline.position
        mark = scope.mark() - (0 if node.pipeline.assigns else len(names))
        if isinstance(value, SecretMap):
            self._bounds.step(position, len(value))  # they are sorted
        try:
            loop = _Loop(node, elements(value, len(names)), mark)
        except Unsuitable as reason:
            raise position.error(reason.reason, hint=reason.hint) from None
        frame = _Frame(iter(()), context, outside, loop)
        self._frames.append(frame)
        if truth(value) and not _is_negative(value):
            return
        frame.loop, frame.nodes = None, iter(node.otherwise)

    def _iterate(self, frame: _Frame, loop: _Loop) -> bool:
        """Begin with the next element, if there is one."""
        pipeline = loop.node.pipeline
        self._bounds.step(pipeline.position)
        scope = frame.context.scope
        scope.forget(loop.mark)
        pair = next(loop.elements, None)
        if pair is None:
            return False
        for name, value in zip(pipeline.names, pair[-len(pipeline.names) :], strict=False):
            if not pipeline.assigns:
                scope.declare(name, value)
            else:
                scope.assign(name, value)
        frame.context = Context(pair[1], scope)
        frame.nodes = iter(loop.node.body)
        return True

    def _invoke(self, node: Invocation, context: Context) -> None:
        body = self._templates.get(node.name)
        if body is None:
            name = node.name[:80].decode(errors="replace")
            raise node.position.error(f"template {name!a} not defined")
        if self._calls == MAX_CALL_DEPTH:
            raise node.position.error(f"exceeded maximum template depth ({MAX_CALL_DEPTH})")
        self._bounds.step(node.position)
        self._calls += 1
        dot = Nil() if node.pipeline is None else self._evaluate(node.pipeline, context)
        self._frames.append(_Frame(iter(body), Context(dot, Scope(dot)), 0, is_call=True))

    def _leave(self) -> None:
        frame = self._frames.pop()
        frame.context.scope.forget(frame.mark)
        self._calls -= frame.is_call

    def _unwind(self, position: Position) -> None:
        """Up to the innermost loop, which the parser has seen to be in this template; what is left of it is skipped."""
        self._bounds.step(position)
        while self._frames[-1].loop is None:
            self._leave()
        self._frames[-1].nodes = iter(())


def _is_negative(value: Value) -> bool:
    return isinstance(value, int) and value < 0
