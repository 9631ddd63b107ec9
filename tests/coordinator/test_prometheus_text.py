"""Prometheus' text format, read back by a reader of its grammar."""

from __future__ import annotations

import math

import pytest
from exposition import read_back
from hypothesis import given
from hypothesis import strategies as st

from coordinator.monitoring.prometheus import Counter, Gauge, Histogram, number

TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(meaning=TEXT, values=st.dictionaries(st.tuples(TEXT, TEXT), st.integers(0, 9), max_size=5))
def test_whatever_is_a_label_is_read_back(meaning, values):
    counter = Counter("name", meaning, ("one", "two"))
    for series, amount in values.items():
        counter.add(*series, amount=amount)
    families, series = read_back(counter.exposition())
    assert families == {"name": ("counter", meaning)}
    expected = {
        ("name", frozenset(pair for pair in (("one", one), ("two", two)) if pair[1])): amount
        for (one, two), amount in values.items()
    }
    assert series == expected


@given(value=st.floats(allow_nan=False))
def test_a_number_is_read_back(value):
    gauge = Gauge("name", "Meaning.")
    gauge.set(value)
    assert read_back(gauge.exposition())[1] == {("name", frozenset()): value}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0, "0"), (3.0, "3"), (0.005, "0.005"), (1e300, "1e+300"), (math.inf, "+Inf"), (-math.inf, "-Inf")],
)
def test_numbers_as_go_writes_them(value, text):
    assert number(value) == text


def test_no_number():
    assert number(math.nan) == "NaN"


@given(
    bounds=st.lists(FINITE, unique=True, max_size=6).map(sorted),
    observed=st.lists(st.tuples(st.sampled_from(["a", "b"]), FINITE), max_size=20),
)
def test_the_rules_of_histograms(bounds, observed):
    """Buckets count what is at or below their bound, the last one is +Inf and equals the count."""
    histogram = Histogram("name", "Meaning.", ("label",), bounds=bounds)
    for label, value in observed:
        histogram.observe(value, label)
    families, series = read_back(histogram.exposition())
    assert families["name"][0] == "histogram"
    for label in ("a", "b"):
        values = [value for name, value in observed if name == label]
        own = {
            (name, dict(labels).get("le")): value
            for (name, labels), value in series.items()
            if ("label", label) in labels
        }
        if not values:
            assert own == {}
            continue
        assert own.pop(("name_count", None)) == len(values)
        assert own.pop(("name_sum", None)) == pytest.approx(
            math.fsum(values), rel=1e-9, abs=1e-3 + abs(max(values)) * 1e-9
        )
        bounded = {float(bound.replace("Inf", "inf")): count for (_, bound), count in own.items()}
        assert list(bounded) == [*bounds, math.inf]
        assert bounded == {bound: sum(value <= bound for value in values) for bound in bounded}


def test_a_histogram_without_labels_is_there_from_the_start():
    assert Histogram("name", "Meaning.", bounds=[1, 2.5]).exposition() == (
        "# HELP name Meaning.\n# TYPE name histogram\n"
        'name_bucket{le="1"} 0\nname_bucket{le="2.5"} 0\nname_bucket{le="+Inf"} 0\nname_sum 0\nname_count 0\n'
    )


@pytest.mark.parametrize("bounds", [[2, 1], [1, 1], [math.inf], [math.nan]])
def test_bounds_that_are_none(bounds):
    with pytest.raises(ValueError, match="rise"):
        Histogram("name", "Meaning.", bounds=bounds)


def test_what_is_not_observed():
    histogram = Histogram("name", "Meaning.", bounds=[1])
    with pytest.raises(ValueError, match="NaN"):
        histogram.observe(math.nan)
    assert "name_count 0\n" in histogram.exposition()


def test_a_counter_never_falls():
    with pytest.raises(ValueError, match="never falls"):
        Counter("name", "Meaning.").add(amount=-1)


@pytest.mark.parametrize(
    ("name", "labels"), [("", ()), ("1name", ()), ("a-b", ()), ("name", ("a:b",)), ("name", ("é",))]
)
def test_names_are_checked(name, labels):
    with pytest.raises(ValueError, match="no name"):
        Gauge(name, "Meaning.", labels)


def test_every_series_has_all_labels():
    for family in (Counter("name", "M.", ("a", "b")), Counter("name", "M.")):
        with pytest.raises(ValueError, match="has the labels"):
            family.add("only one")
