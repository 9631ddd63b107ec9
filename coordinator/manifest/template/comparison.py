"""Go's eq, ne, lt, le, gt and ge.

Values of different kinds do not compare, except that signed and unsigned integers do, and anything may be asked whether
it is nil. An error never has the values: they may be secret.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from coordinator.manifest.template.values import Key, Nil, Unsigned, Unsuitable, Value, type_name

_Comparable: TypeAlias = "bytes | bool | int | float"


def equal(arguments: Sequence[Value]) -> bool:
    """The first argument equals one of the others."""
    first, *others = arguments
    if not others:
        raise Unsuitable("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def unequal(arguments: Sequence[Value]) -> bool:
    """`ne`."""
    first, second = arguments
    return not _equal(first, second)


def less(arguments: Sequence[Value]) -> bool:
    """`lt`."""
    return _ordered(arguments, operator.lt)


def less_or_equal(arguments: Sequence[Value]) -> bool:
    """`le`."""
    return _ordered(arguments, operator.le)


def greater(arguments: Sequence[Value]) -> bool:
    """`gt`: in Go the opposite of `le`, which shows with NaN only, and no template can make one."""
    return _ordered(arguments, operator.gt)


def greater_or_equal(arguments: Sequence[Value]) -> bool:
    """`ge`."""
    return _ordered(arguments, operator.ge)


def _equal(first: Value, second: Value) -> bool:
    if isinstance(first, Nil) or isinstance(second, Nil):
        return _is_nil(first) and _is_nil(second)
    left, right = _basic(first), _basic(second)
    if left is None and right is None:
        raise Unsuitable(f"non-comparable types {type_name(first)} and {type_name(second)}")
    if left is None or right is None or _kind(left) is not _kind(right):
        raise Unsuitable("incompatible types for comparison")
    return left == right


def _ordered(arguments: Sequence[Value], holds: Callable[[Any, Any], bool]) -> bool:
    first, second = arguments
    left, right = _basic(first), _basic(second)
    if left is None or right is None:
        raise Unsuitable("invalid type for comparison")
    if _kind(left) is not _kind(right):
        raise Unsuitable("incompatible types for comparison")
    if isinstance(left, bool):
        raise Unsuitable("invalid type for comparison")
    return holds(left, right)


def _basic(value: Value) -> _Comparable | None:
    """The value that Python compares, None if Go would not compare it."""
    if isinstance(value, Unsigned):
        return value.number
    return value if isinstance(value, bytes | bool | int | float) else None


def _kind(value: _Comparable) -> type:
    return type(value)


def _is_nil(value: Value) -> bool:
    return isinstance(value, Nil) or (isinstance(value, Key) and len(value) == 0)
