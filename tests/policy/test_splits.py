"""Traffic splits inside a marble: what is read, and what is not even a split."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.splits import TrafficSplits

weights = st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 1_000_000), min_size=1, max_size=4)
splits = st.dictionaries(st.text(min_size=1, max_size=5), weights.filter(lambda each: sum(each.values())), max_size=3)


@given(splits)
def test_json_and_back(described):
    read = TrafficSplits.from_json(json.dumps(described))
    assert {root: read.backends(root) for root in described} == described
    assert TrafficSplits.from_json(read.to_json()) == read


@pytest.mark.parametrize("text", ["", " \n", "{}"])
def test_what_is_not_split_goes_to_itself(text):
    assert TrafficSplits.from_json(text).backends("bookstore") == {"bookstore": 1}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": {"b": 1}, "a": {"c": 1}}', "stands twice"),
        ("[]", "no object"),
        ({"a": 1}, "another form"),
        ({"a": {}}, "goes nowhere"),
        ({"": {"b": 1}}, "another form"),
        ({"a": {"": 1}}, "another form"),
        ({"a": {"b": 0, "c": 0}}, "goes nowhere"),
        ({"a": {"b": -1}}, "another weight for b"),
        ({"a": {"b": 1.5}}, "another weight"),
        ({"a": {"b": True}}, "another weight"),
        ({"a": {"b": 10**9}}, "another weight"),
    ],
)
def test_malformed_splits(document, words):
    with pytest.raises(ConfigurationError, match=words):
        TrafficSplits.from_json(document if isinstance(document, str) else json.dumps(document))


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_splits_or_a_configuration_error(text):
    try:
        TrafficSplits.from_json(text)
    except ConfigurationError as error:
        assert error.message  # noqa: PT017  # either outcome is right; anything else is raised
