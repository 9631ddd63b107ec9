from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from coordinator.transport.paced_log import PacedLog


class Clock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_line_a_second_with_the_number_of_those_left_out():
    clock = Clock()
    denied = PacedLog("warning", clock=clock)
    with capture_logs() as lines:
        for number in range(50):
            denied("denied", number=number)
        clock.now += 0.99
        denied("denied", number=50)
        clock.now += 0.01
        denied("denied", number=51)
        clock.now += 60
        denied("denied", number=52)
    assert lines == [
        {"event": "denied", "number": 0, "log_level": "warning"},
        {"event": "denied", "number": 51, "suppressed": 50, "log_level": "warning"},
        {"event": "denied", "number": 52, "log_level": "warning"},
    ]


def test_one_kind_hides_nothing_of_another():
    clock = Clock()
    with capture_logs() as lines:
        for level in ("info", "error"):
            PacedLog(level, clock=clock)("event")
    assert [line["log_level"] for line in lines] == ["info", "error"]


@given(pauses=st.lists(st.sampled_from([0.0, 0.25, 1.0, 7.5]), max_size=40))
def test_none_is_lost_from_the_count(pauses):
    clock = Clock()
    denied = PacedLog("info", seconds=2, clock=clock)
    times = []
    with capture_logs() as lines:
        for pause in [*pauses, 2.0]:
            clock.now += pause
            before = len(lines)
            denied("denied")
            times += [clock.now] * (len(lines) - before)
    assert sum(1 + line.get("suppressed", 0) for line in lines) == len(pauses) + 1
    assert all(later - earlier >= 2 for earlier, later in itertools.pairwise(times))


def test_a_level_that_is_none():
    with pytest.raises(ValueError, match="no level"):
        PacedLog("loud")
