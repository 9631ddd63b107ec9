from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.client_api.envelope import error, fail, success
from coordinator.transport.json_text import go_json, go_map

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_json_is_written_as_go_writes_it():
    assert go_json({"a": "<b>&\u2028\u2029\x7f\n\"'", "n": None, "x": b"\x00\xff", "ü": [1, True]}) == (
        b'{"a":"\\u003cb\\u003e\\u0026\\u2028\\u2029\x7f\\n\\"\'","n":null,"x":"AP8=","\xc3\xbc":[1,true]}\n'
    )


@given(JSON)
def test_json_says_what_was_meant(value):
    assert json.loads(go_json(value)) == value


@given(st.text(st.characters()) | st.text(st.sampled_from("\ud800\udfff<\\n")))
def test_half_a_surrogate_pair_does_not_stop_an_answer(text):
    assert json.loads(go_json(text)) == "".join("\ufffd" if "\ud800" <= each <= "\udfff" else each for each in text)


def test_what_has_no_form_in_json_is_a_mistake_of_the_program():
    with pytest.raises(TypeError, match="object has no form in JSON"):
        go_json(object())


def test_maps_are_sorted_as_go_sorts_them():
    assert list(go_map({"é": 1, "b": 2, "B": 3, "a": 4, "": 5})) == ["", "B", "a", "b", "é"]


def test_the_three_outcomes():
    assert success({"x": 1}).body == b'{"status":"success","data":{"x":1}}\n'
    assert fail(400, "no").body == b'{"status":"fail","data":null,"message":"no"}\n'
    assert fail(400, "no", {"x": "no"}).body == b'{"status":"fail","data":{"x":"no"},"message":"no"}\n'
    assert error(500, "no").body == b'{"status":"error","data":null,"message":"no"}\n'
    assert error(405).body == b'{"status":"error","data":null}\n'
