"""Go's len, index and slice, and what `range` goes through.

A string has bytes; of secrets, keys are slices of bytes and `.Secrets` is a map. A slice's capacity is its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from confidential_bookstore.secret import Secret
from coordinator.manifest.template.values import (
    Key,
    Nil,
    SecretMap,
    Unsigned,
    Unsuitable,
    Value,
    WholeSecret,
    type_name,
)

_OUT_OF_RANGE = "index out of range"  # Go says which, but it may have come from a secret


def length(value: Value) -> int:
    """`len`: of a string in bytes."""
    if isinstance(value, bytes | Key | SecretMap):
        return len(value)
    raise Unsuitable(f"len of type {type_name(value)}")


def index(arguments: Sequence[Value]) -> Value:
    """`index x 1 2` is x[1][2]."""
    value, *indices = arguments
    if isinstance(value, Nil):
        raise Unsuitable("index of untyped nil", value.hint)
    for key in indices:
        value = _element(value, key)
    return value


def _element(value: Value, key: Value) -> Value:
    match value:
        case bytes() | Key():
            data = value if isinstance(value, bytes) else value.value.reveal()
            place = _offset(key, len(data))
            if place == len(data):
                raise Unsuitable(_OUT_OF_RANGE)
            return Unsigned(data[place], "uint8")
        case SecretMap():
            if not isinstance(key, bytes):
                raise Unsuitable(f"value has type {type_name(key)}; should be string")
            return value.get(key.decode(errors="surrogateescape")) or WholeSecret(None)
        case _:
            raise Unsuitable(f"can't index item of type {type_name(value)}")


def part(arguments: Sequence[Value]) -> Value:
    """`slice x 1 2` is x[1:2]."""
    value, *indices = arguments
    if isinstance(value, Nil):
        raise Unsuitable("slice of untyped nil", value.hint)
    if not isinstance(value, bytes | Key):
        raise Unsuitable(f"can't slice item of type {type_name(value)}")
    if len(indices) > 3:
        raise Unsuitable(f"too many slice indexes: {len(indices)}")
    if len(indices) == 3 and isinstance(value, bytes):
        raise Unsuitable("cannot 3-index slice a string")
    data = value if isinstance(value, bytes) else value.value.reveal()
    offsets = [_offset(key, len(data)) for key in indices]
    start, end, *_ = [*offsets, *[0, len(data)][len(offsets) :]]
    for low, high in zip([start, end], [end, *offsets[2:]], strict=False):
        if low > high:
            raise Unsuitable("invalid slice index: the first is larger than the second")
    if isinstance(value, bytes):
        return data[start:end]
    return Key(value.type_name, value.pem_label, Secret(data[start:end]))


def _offset(key: Value, size: int) -> int:
    match key:
        case Unsigned():
            number = key.number
        case int() if not isinstance(key, bool):
            number = key
        case Nil():
            raise Unsuitable("cannot index slice/array with nil")
        case _:
            raise Unsuitable(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= number <= size:
        raise Unsuitable(_OUT_OF_RANGE)
    return number


def elements(value: Value, variables: int) -> Iterator[tuple[Value, Value]]:
    """Pairs of key (or offset) and element, one by one.

    Args:
        value: what `range` was given.
        variables: how many of them want a value; a number has no keys.

    Raises:
        Unsuitable: Go does not range over this; over strings neither.
    """
    match value:
        case Nil():
            return iter(())
        case int() | Unsigned() if not isinstance(value, bool):
            if variables > 1:
                raise Unsuitable("can't use a number to iterate over more than one variable")
            return _numbers(value)
        case SecretMap():
            return value.items()
        case Key():
            return ((offset, Unsigned(byte, "uint8")) for offset, byte in enumerate(value.value.reveal()))
        case _:
            raise Unsuitable(f"range can't iterate over a value of type {type_name(value)}")


def _numbers(limit: int | Unsigned) -> Iterator[tuple[Value, Value]]:
    if isinstance(limit, Unsigned):
        return ((number, Unsigned(number, limit.type_name)) for number in range(limit.number))
    return ((number, number) for number in range(limit))
