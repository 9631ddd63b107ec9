"""Expressions to values. Recursive in parentheses only, whose depth the parser bounds."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.manifest.template.bounds import Bounds
from coordinator.manifest.template.functions import FUNCTIONS
from coordinator.manifest.template.nodes import (
    Access,
    Call,
    Dot,
    Expression,
    Literal,
    Pipeline,
    Variable,
)
from coordinator.manifest.template.scope import Scope
from coordinator.manifest.template.values import Nil, Unsuitable, Value, field_of, truth

_DECIDES = {"and": False, "or": True}  # the truth of an argument after which the others are not looked at


@dataclass(frozen=True, slots=True)
class Context:
    """Where an expression is evaluated."""

    dot: Value
    scope: Scope


def evaluate_pipeline(pipeline: Pipeline, context: Context, bounds: Bounds) -> Value:
    """The value of the last command, which the pipeline's variables get as well.

    Raises:
        TemplateError: something it names does not exist, or cannot be used as it is.
    """
    first, *calls = pipeline.commands
    value = _evaluate(first, context, bounds)
    for call in calls:
        if isinstance(call, Call):  # the parser lets nothing else stand after a "|"
            value = _call(call, context, bounds, piped=[value])
    for name in pipeline.names:
        if not pipeline.assigns:
            context.scope.declare(name, value)
        elif not context.scope.assign(name, value):
            raise pipeline.position.error(f"undefined variable {name[:80]!a}")
    return value


def _evaluate(expression: Expression, context: Context, bounds: Bounds) -> Value:
    match expression:
        case Literal():
            return Nil() if expression.value is None else expression.value
        case Dot():
            return context.dot
        case Variable():
            value = context.scope.value(expression.name)
            if value is None:
                raise expression.position.error(f"undefined variable {expression.name[:80]!a}")
            return value
        case Access():
            return _access(expression, context, bounds)
        case Call():
            return _call(expression, context, bounds, piped=[])
        case Pipeline():
            return evaluate_pipeline(expression, context, bounds)


def _access(access: Access, context: Context, bounds: Bounds) -> Value:
    value = _evaluate(access.base, context, bounds)
    for name in access.names:
        try:
            value = field_of(value, name)
        except Unsuitable as reason:
            raise access.position.error(reason.reason, hint=reason.hint) from None
    return value


def _call(call: Call, context: Context, bounds: Bounds, *, piped: list[Value]) -> Value:
    """The function's result, with the piped value (if there is one) as its last argument."""
    bounds.step(call.position)
    decides = _DECIDES.get(call.function)
    arguments: list[Value] = []
    for expression in call.arguments:
        value = _evaluate(expression, context, bounds)
        if decides is not None and truth(value) is decides:
            return value
        arguments.append(value)
    arguments += piped
    bounds.work(arguments, call.position)
    if call.function == "printf" and isinstance(arguments[0], bytes):
        bounds.step(call.position, arguments[0].count(b"%"))
    try:
        result = FUNCTIONS[call.function].apply(arguments)
    except Unsuitable as reason:
        raise call.position.error(f"{call.function}: {reason.reason}", hint=reason.hint) from None
    bounds.work([result], call.position)
    return result
