"""Shamir's secret sharing in HashiCorp's scheme, which MarbleRun uses: any `threshold` shares give the secret.

The field is GF(2^8) with the polynomial x^8 + x^4 + x^3 + x + 1 (0x11B). Every byte of the secret has a random
polynomial of degree threshold - 1 whose value at 0 is that byte. A share is the values of all of them at one x,
followed by x itself, which is one byte from 1 to 255.

Arithmetic is done on all bytes of a secret together, as one integer with eight bits for each, without tables and
without branches that depend on a secret.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final

from confidential_bookstore.errors import RecoveryError

MOST_SHARES: Final = 255
_REDUCTION = 0x1B  # 0x11B without x^8


def split(secret: bytes, shares: int, threshold: int, random: Callable[[int], bytes]) -> tuple[bytes, ...]:
    """Shares of `secret`, each one byte longer than it.

    Args:
        secret: at least one byte.
        shares: how many; at most 255.
        threshold: how many of them give the secret; from 2 to `shares`.
        random: that many bytes, from a cryptographic source.

    Raises:
        ValueError: the numbers are none of these.
    """
    if not (secret and 2 <= threshold <= shares <= MOST_SHARES):
        raise ValueError(f"cannot make {shares} shares with threshold {threshold}")
    size = len(secret)
    coefficients = [int.from_bytes(secret, "big"), *(int.from_bytes(random(size), "big") for _ in range(threshold - 1))]
    points = sorted(range(1, MOST_SHARES + 1), key=lambda _: random(16))[:shares]
    return tuple(_evaluate(coefficients, x, size).to_bytes(size, "big") + bytes([x]) for x in points)


def combine(shares: Sequence[bytes]) -> bytes:
    """The secret, if there are enough shares; with too few, or with one that is wrong, other bytes of its length.

    Raises:
        RecoveryError: they are no shares of one secret: different lengths, or an x that is 0 or there twice.
    """
    points = [share[-1] for share in shares if share]
    sizes = {len(share) for share in shares}
    if len(sizes) != 1 or min(sizes) < 2 or 0 in points or len(set(points)) != len(points):
        raise RecoveryError("recovery shares do not belong together")
    size = sizes.pop() - 1
    secret = 0
    for share, x in zip(shares, points, strict=True):
        # Lagrange's basis at 0; minus is plus in this field.
        weight = functools.reduce(_multiply, (_ratio(other, other ^ x) for other in points if other != x), 1)
        secret ^= _scale(int.from_bytes(share[:-1], "big"), weight, size)
    return secret.to_bytes(size, "big")


def _evaluate(coefficients: Sequence[int], x: int, size: int) -> int:
    """Horner's rule; the constant coefficient comes first."""
    return functools.reduce(lambda value, coefficient: _scale(value, x, size) ^ coefficient, reversed(coefficients), 0)


def _scale(vector: int, scalar: int, size: int) -> int:
    """Each of the `size` bytes of `vector` times `scalar`."""
    ones = int.from_bytes(b"\x01" * size, "big")
    product = 0
    for bit in range(8):
        product ^= vector & -(scalar >> bit & 1)
        high = vector & 0x80 * ones
        vector = (vector ^ high) << 1 ^ (high >> 7) * _REDUCTION
    return product


def _multiply(left: int, right: int) -> int:
    return _scale(left, right, 1)


@functools.cache
def _ratio(dividend: int, divisor: int) -> int:
    """Of two x, which are no secrets. The inverse of a is a^254."""
    return functools.reduce(_multiply, [divisor] * 254, dividend)
