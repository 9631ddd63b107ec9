from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import InvalidRequest
from coordinator.client_api.envelope import error, fail, go_json, read_bytes_field, success

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_json_is_written_as_go_writes_it():
    assert go_json({"a": "<b>&\u2028", "n": None, "x": b"\x00\xff", "ü": [1, True]}) == (
        b'{"a":"\\u003cb\\u003e\\u0026\\u2028","n":null,"x":"AP8=","\xc3\xbc":[1,true]}\n'
    )


@given(JSON)
def test_json_says_what_was_meant(value):
    assert json.loads(go_json(value)) == value


def test_a_lone_surrogate_does_not_stop_an_answer():
    assert go_json("\ud800") == b'"?"\n'


def test_the_three_outcomes():
    assert success({"x": 1}).body == b'{"status":"success","data":{"x":1}}\n'
    assert fail(400, "no").body == b'{"status":"fail","data":null,"message":"no"}\n'
    assert error(500, "no").body == b'{"status":"error","data":null,"message":"no"}\n'
    assert error(405).body == b'{"status":"error","data":null}\n'


@pytest.mark.parametrize(
    "body",
    [
        b'{"manifest":"AP8="}',
        b' \n{"MANIFEST":"AP8="} trailing',
        b'{"manifest":"AA==","Manifest":"A\\nP8=\\r\\n","other":[1]}',
        b'{"manifest":[0,255]}',
    ],
)
def test_bytes_are_read_as_go_reads_them(body):
    assert read_bytes_field(body, "manifest") == b"\x00\xff"


@pytest.mark.parametrize("body", [b"{}", b'{"manifest":null}', b'{"manifest":""}'])
def test_nothing_is_empty(body):
    assert read_bytes_field(body, "manifest") == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"NaN",
        b"null",
        b'"x"',
        b'{"manifest":"A"}',
        b'{"manifest":[256]}',
        b'{"manifest":[true]}',
        b"\xff",
        b"[" * 99999,
    ],
)
def test_anything_else_is_the_callers_mistake(body):
    with pytest.raises(InvalidRequest):
        read_bytes_field(body, "manifest")


@given(st.binary() | JSON.map(lambda value: json.dumps({"manifest": value}).encode()))
def test_arbitrary_bodies_give_bytes_or_a_typed_error(body):
    with contextlib.suppress(InvalidRequest):
        assert isinstance(read_bytes_field(body, "manifest"), bytes)


@given(st.binary())
def test_base64_round_trips(raw):
    assert read_bytes_field(json.dumps({"manifest": base64.b64encode(raw).decode()}).encode(), "manifest") == raw
