from __future__ import annotations

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recovery_material import slow_combine, slow_multiply

from confidential_bookstore.errors import RecoveryError
from coordinator.recovery import shamir

SECRETS = st.binary(min_size=1, max_size=33)


@st.composite
def numbers(draw) -> tuple[int, int]:
    """Shares and threshold."""
    shares = draw(st.integers(2, 12))
    return shares, draw(st.integers(2, shares))


def test_multiplication_is_that_of_the_field():
    """All products, a whole row at a time."""
    row = int.from_bytes(bytes(range(256)), "big")
    for scalar in range(256):
        expected = bytes(slow_multiply(value, scalar) for value in range(256))
        assert shamir._scale(row, scalar, 256).to_bytes(256, "big") == expected


def test_division_undoes_multiplication():
    for value, divisor in ((1, 1), (0x53, 0xCA), (255, 2), (7, 254)):
        assert slow_multiply(shamir._ratio(value, divisor), divisor) == value


@given(secret=SECRETS, counts=numbers(), data=st.data())
@settings(deadline=None)
def test_any_threshold_of_the_shares_give_the_secret(secret, counts, data):
    total, threshold = counts
    shares = shamir.split(secret, total, threshold, os.urandom)
    assert len(shares) == total
    assert {len(share) for share in shares} == {len(secret) + 1}
    assert len({share[-1] for share in shares} - {0}) == total
    some = data.draw(st.permutations(shares))[: data.draw(st.integers(threshold, total))]
    assert shamir.combine(some) == secret


@given(secret=st.binary(min_size=1, max_size=4), counts=numbers(), data=st.data())
@settings(max_examples=20, deadline=None)
def test_against_a_slow_implementation(secret, counts, data):
    total, threshold = counts
    shares = shamir.split(secret, total, threshold, os.urandom)
    some = data.draw(st.permutations(shares))[:threshold]
    assert slow_combine(some) == secret
    assert shamir.combine(some[:-1]) == slow_combine(some[:-1])


@given(secret=st.binary(min_size=16, max_size=32), counts=numbers(), data=st.data())
@settings(deadline=None)
def test_fewer_do_not(secret, counts, data):
    total, threshold = counts
    shares = shamir.split(secret, total, threshold, os.urandom)
    some = data.draw(st.permutations(shares))[: threshold - 1]
    assert shamir.combine(some) != secret


@given(other=st.integers(0, 255))
@settings(max_examples=30, deadline=None)
def test_one_share_too_few_leaves_every_secret_possible(other):
    """For two of two: whatever the secret might be, some second share makes it so."""
    first, _ = shamir.split(b"s", 2, 2, os.urandom)
    x = next(x for x in range(1, 256) if x != first[-1])
    assert bytes([other]) in {shamir.combine([first, bytes([y, x])]) for y in range(256)}


def test_where_the_bytes_stand():
    """Of the polynomial 0x42 + 3x: y first, then x."""
    shares = shamir.split(b"\x42", 255, 2, lambda count: bytes([3]) * count)
    assert {share[1]: share[0] for share in shares} == {x: 0x42 ^ slow_multiply(3, x) for x in range(1, 256)}


def test_points_are_drawn_at_random():
    source = random.Random(1)
    drawn = [tuple(share[-1] for share in shamir.split(b"s", 3, 2, source.randbytes)) for _ in range(200)]
    assert len(set(drawn)) > 190
    assert len({x for points in drawn for x in points}) > 200


@pytest.mark.parametrize(("secret", "shares", "threshold"), [(b"", 3, 2), (b"s", 3, 1), (b"s", 2, 3), (b"s", 256, 2)])
def test_impossible_numbers(secret, shares, threshold):
    with pytest.raises(ValueError, match="cannot make"):
        shamir.split(secret, shares, threshold, os.urandom)


@pytest.mark.parametrize(
    "shares", [[], [b""], [b"\1"], [b"y\0", b"y\1"], [b"y\1", b"z\1"], [b"y\1", b"yy\2"], [b"y\1", b""]]
)
def test_what_are_no_shares_of_one_secret(shares):
    with pytest.raises(RecoveryError, match="do not belong together"):
        shamir.combine(shares)
