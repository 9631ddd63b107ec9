"""The tree of a template and its data to bytes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from coordinator.manifest.template.functions import FUNCTIONS, Unsuitable, printed
from coordinator.manifest.template.nodes import Access, Call, Expression, Literal, Node, Position, Text
from coordinator.manifest.template.values import Namespace, TemplateKind, Value, part_of
from coordinator.secrets.value import SecretValue

MAX_RENDERED_SIZE = 4 * 1024 * 1024  # the most a gRPC client receives unless told otherwise

_SECRET_FIELDS_NOT_YET = frozenset({"Type", "Size", "Shared", "UserDefined", "ValidFor"})


def render_nodes(nodes: Iterable[Node], data: Namespace, kind: TemplateKind) -> bytes:
    """Render a template.

    Raises:
        TemplateError: something it names does not exist, or cannot be used as it is.
    """
    rendered = bytearray()
    for node in nodes:
        if isinstance(node, Text):
            rendered += node.text.encode(errors="surrogateescape")
            continue
        expression = node.expression
        try:
            rendered += printed(_evaluate(expression, data, kind))
        except Unsuitable as reason:
            raise expression.position.error(reason.reason, hint=reason.hint) from None
        _check_size(rendered, expression.position)
    return bytes(rendered)


def _evaluate(expression: Expression, data: Namespace, kind: TemplateKind) -> Value:
    match expression:
        case Literal():
            return expression.value
        case Access():
            value: Value = data if expression.base is None else _evaluate(expression.base, data, kind)
            for name in expression.names:
                value = _field(value, name, expression.position)
            return value
        case Call():
            return _call(expression, data, kind)


def _call(call: Call, data: Namespace, kind: TemplateKind) -> bytes:
    function = FUNCTIONS[call.function]
    if kind not in function.kinds:
        (only,) = function.kinds
        raise call.position.error(f"{call.function} exists in {only.value} only, not in {kind.value}")
    (argument,) = call.arguments
    value = _evaluate(argument, data, kind)
    try:
        result = function.apply(value)
    except Unsuitable as reason:
        raise call.position.error(f"{call.function}: {reason.reason}", hint=reason.hint) from None
    _check_size(result, call.position)
    return result


def _field(value: Value, name: str, position: Position) -> Value:
    match value:
        case Namespace():
            member = value.members.get(name)
            if member is None:
                raise position.error(f"there is no {value.singular} {name[:80]!a}", hint=_nearest(name, value))
            return member
        case SecretValue():
            if name in _SECRET_FIELDS_NOT_YET:
                raise position.error(f'field "{name}" of a secret is not supported yet')
            part = part_of(value, name)
            if part is None:
                raise position.error(f"a secret has no field {name[:80]!a}", hint="it has Cert, Private and Public")
            return part
        case _:
            raise position.error(f"there is no field {name[:80]!a} here")


def _nearest(name: str, namespace: Namespace) -> str:
    near = difflib.get_close_matches(name[:80], namespace.members, n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def _check_size(data: bytes | bytearray, position: Position) -> None:
    if len(data) > MAX_RENDERED_SIZE:
        raise position.error(f"template gives more than {MAX_RENDERED_SIZE} bytes")


def accesses(nodes: Iterable[Node]) -> Iterator[Access]:
    """Every field access in a template."""
    pending: list[Expression] = [node.expression for node in nodes if not isinstance(node, Text)]
    while pending:
        match pending.pop():
            case Access() as access:
                yield access
                if access.base is not None:
                    pending.append(access.base)
            case Call() as call:
                pending += call.arguments
            case Literal():
                pass
