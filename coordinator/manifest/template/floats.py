"""A float as Go's strconv.FormatFloat writes it: formats e, f, g, x and b, with a precision or as short as possible."""

from __future__ import annotations

import math
from decimal import Decimal

_MANTISSA_BITS = 52
_LEAST_EXPONENT = -1074  # of the last bit of a float
_SHORT_PRECISION = 6  # from this exponent on, the shortest form has an "e"


def float_text(value: float, form: str, precision: int) -> str:
    """The text, with a sign only if it is negative.

    Args:
        value: not infinite, and a number: no template can make others.
        form: one of "efgxb".
        precision: digits after the point, for "g" all digits; -1: as many as are needed.
    """
    if form == "b":
        mantissa, exponent = _parts(value)
        return f"{_sign(value)}{mantissa}p{exponent:+d}"
    if form == "x":
        return _hexadecimal(value, precision)
    return format(value, f".{precision}{form}") if precision >= 0 else _shortest(value)


def _shortest(value: float) -> str:
    decimal = Decimal(repr(value))
    digits = "".join(map(str, decimal.as_tuple().digits)).rstrip("0") or "0"
    exponent = decimal.adjusted() if value else 0
    if -4 <= exponent < _SHORT_PRECISION:
        text = format(decimal, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{_sign(value)}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _parts(value: float) -> tuple[int, int]:
    """Mantissa and binary exponent of the absolute value; all bits are kept."""
    fraction, exponent = math.frexp(abs(value))
    exponent = max(exponent - _MANTISSA_BITS - 1, _LEAST_EXPONENT) if value else _LEAST_EXPONENT
    return int(math.ldexp(abs(value), -exponent)) if exponent > -1000 else _small(fraction, value, exponent), exponent


def _small(fraction: float, value: float, exponent: int) -> int:
    """The mantissa where 2**-exponent is too large for a float."""
    shift = math.frexp(value)[1] - exponent
    return int(math.ldexp(fraction, shift))


def _hexadecimal(value: float, precision: int) -> str:
    mantissa, exponent = _parts(value)
    if not value:
        exponent = 0
    else:
        shift = _MANTISSA_BITS + 1 - mantissa.bit_length()
        mantissa, exponent = mantissa << shift, exponent - shift + _MANTISSA_BITS
    mantissa, bits = mantissa << 4, _MANTISSA_BITS + 4
    if 0 <= precision < bits // 4:
        mantissa, exponent = _rounded(mantissa, bits - 4 * precision, exponent, bits)
    digits = f"{mantissa & ((1 << bits) - 1):014x}"
    digits = digits.rstrip("0") if precision < 0 else digits.ljust(precision, "0")[:precision]
    point = f".{digits}" if digits else ""
    return f"{_sign(value)}0x{mantissa >> bits}{point}p{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _rounded(mantissa: int, dropped: int, exponent: int, bits: int) -> tuple[int, int]:
    """Round half to even in the last `dropped` bits."""
    kept, rest = mantissa >> dropped, mantissa & ((1 << dropped) - 1)
    half = 1 << (dropped - 1)
    if rest > half or (rest == half and kept & 1):
        kept += 1
    mantissa = kept << dropped
    if mantissa >> (bits + 1):
        mantissa, exponent = mantissa >> 1, exponent + 1
    return mantissa, exponent


def _sign(value: float) -> str:
    return "-" if math.copysign(1, value) < 0 else ""
