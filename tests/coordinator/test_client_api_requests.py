"""Bodies of requests are read as Go reads them."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import InvalidRequest
from coordinator.client_api.go_json import JsonObject, read_object

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
UINT64 = st.integers(0, 2**64 - 1)


@pytest.mark.parametrize(
    "body",
    [
        b'{"manifest":"AP8="}',
        b' \n\t\r{"MANIFEST":"AP8="} trailing',
        b'{"manifest":"AA==","Manifest":"A\\nP8=\\r\\n","other":[1]}',
        b'{"manifest":[0,255]}',
        b'{"manifest":[null,255]}',
        b'{"manifest":null,"manifest":"AP8="}',
        b'{"other":1e999,"manifest":"AP8=","third":' + b"9" * 5000 + b"}",
        b'{"\\u006danifest":"AP8="}',
    ],
)
def test_bytes(body):
    assert read_object(body).bytes("manifest") == b"\x00\xff"


@pytest.mark.parametrize(
    "body", [b"{}", b"null", b"null and more", b'{"manifest":null}', b'{"manifest":""}', b'{"manifest":[]}']
)
def test_nothing_is_empty(body):
    assert read_object(body).bytes("manifest") == b""


def test_null_takes_bytes_back_and_leaves_text_and_numbers():
    fields = read_object(b'{"b":"AA==","b":null,"t":"x","t":null,"n":7,"n":null}')
    assert (fields.bytes("b"), fields.text("t"), fields.uint64("n")) == (b"", "x", 7)


@pytest.mark.parametrize(
    "body",
    [
        b'{"manifest":"A"}',
        b'{"manifest":"AA"}',
        b'{"manifest":"A-_="}',
        b'{"manifest":"AA==AA=="}',
        b'{"manifest":"\xc3\xa4\xc3\xa4=="}',
        b'{"manifest":[256]}',
        b'{"manifest":[-1]}',
        b'{"manifest":[-0]}',
        b'{"manifest":[1.0]}',
        b'{"manifest":[true]}',
        b'{"manifest":["1"]}',
        b'{"manifest":7}',
        b'{"manifest":true}',
        b'{"manifest":{}}',
        b'{"manifest":7,"manifest":"AA=="}',
    ],
)
def test_what_are_no_bytes(body):
    fields = read_object(body)
    with pytest.raises(InvalidRequest, match=r"^field manifest is"):
        fields.bytes("manifest")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "EOF"),
        (b" \r\n\t ", "EOF"),
        (b"NaN", "request body is not JSON: got no value begins with N, character 0"),
        (b'{"x":-Infinity}', "request body is not JSON: got no value begins with -, character 0"),
        (b'"x"', "request body is of the wrong type: got text, expected an object"),
        (b"7", "request body is of the wrong type: got a number, expected an object"),
        (b"[]", "request body is of the wrong type: got a list, expected an object"),
        (b"true", "request body is of the wrong type: got a boolean, expected an object"),
        (b"{", "request body is not JSON"),
        (b'{"x":01}', "request body is not JSON"),
        (b'{"x":"\n"}', "request body is not JSON"),
        (b"\xff", "request body is not JSON"),
        (b"\xef\xbb\xbf{}", "request body is not JSON"),
        (b"\x0b{}", "request body is not JSON"),
        (b"[" * 99999, "request body is not JSON: got too many nested values"),
        (b'{"x":' * 99999, "request body is not JSON: got too many nested values"),
    ],
)
def test_what_is_no_object(body, message):
    with pytest.raises(InvalidRequest) as refused:
        read_object(body)
    assert str(refused.value).startswith(message)


def test_only_a_decoder_ignores_what_follows():
    assert read_object(b"{} x") == read_object(b"{} \n", alone=True) == JsonObject([])
    with pytest.raises(InvalidRequest, match="something after the value, character 2"):
        read_object(b"{} x", alone=True)


@given(UINT64)
def test_uint64_is_exact(number):
    assert read_object(json.dumps({"Value": number}).encode()).uint64("value") == number


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "-1", "-0", "1.0", "1e0", '"1"', "true", "[1]", "{}", "9" * 5000]
)
def test_what_is_no_uint64(number):
    fields = read_object(f'{{"value":{number}}}'.encode())
    with pytest.raises(InvalidRequest, match=r"^field value is"):
        fields.uint64("value")


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d!"', "\ufffd!"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (b'"\xff!"', "\ufffd!"),
        (rb'"\u0000"', "\0"),
    ],
)
def test_text_is_unicode(sent, read):
    assert read_object(b'{"name":' + sent + b"}").text("name") == read


@pytest.mark.parametrize("value", ["7", "true", "[]", "{}"])
def test_what_is_no_text(value):
    fields = read_object(f'{{"name":{value}}}'.encode())
    with pytest.raises(InvalidRequest, match=r"^field name is of the wrong type"):
        fields.text("name")


def test_names_are_folded_as_go_folds_them():
    """Two letters beyond ASCII are forms of s and k."""
    fields = read_object('{"\u017fecretS":"1","\u212aey":"2","SECRETs\u0307":"3","\ufb06":"4"}'.encode())
    assert (fields.text("secrets"), fields.text("key"), fields.text("st")) == ("1", "2", "")


def test_a_map_that_comes_twice_is_one_map_whose_last_values_count():
    fields = read_object(b'{"m":{"a":{"x":1},"A":{"x":2}},"M":{"a":{"y":3},"n":null}}').object("m").objects()
    assert {name: (value.uint64("x"), value.uint64("y")) for name, value in fields.items()} == {
        "a": (0, 3),
        "A": (2, 0),
        "n": (0, 0),
    }
    assert read_object(b'{"m":{"a":{}},"m":null}').object("m").objects() == {}


@pytest.mark.parametrize("body", [b'{"m":[]}', b'{"m":{"a":7}}', b'{"m":{"a":"x"}}', b'{"m":"x"}'])
def test_what_is_no_map_of_objects(body):
    with pytest.raises(InvalidRequest, match="of the wrong type"):
        read_object(body).object("m").objects()


@given(st.binary())
def test_base64_round_trips(raw):
    assert read_object(json.dumps({"x": base64.b64encode(raw).decode()}).encode()).bytes("x") == raw
    assert read_object(json.dumps({"x": list(raw)}).encode()).bytes("X") == raw


def folded_json(name: str) -> st.SearchStrategy[bytes]:
    """Objects in which the name comes several times, in any case, with any value."""
    names = st.sampled_from([name, name.upper(), name.title(), "other"])
    members = st.lists(st.tuples(names, JSON), max_size=4)
    return members.map(
        lambda pairs: ("{" + ",".join(f"{json.dumps(n)}:{json.dumps(v)}" for n, v in pairs) + "}").encode()
    )


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | folded_json("field"))
def test_any_body_gives_values_or_a_typed_error(body):
    for read, kind in ((JsonObject.bytes, bytes), (JsonObject.text, str), (JsonObject.uint64, int)):
        with contextlib.suppress(InvalidRequest):
            assert isinstance(read(read_object(body), "field"), kind)
    with contextlib.suppress(InvalidRequest):
        assert all(isinstance(each, JsonObject) for each in read_object(body).object("field").objects().values())


@given(folded_json("value"))
def test_the_last_number_counts(body):
    pairs = [(name, value) for name, value in json.loads(body, object_pairs_hook=list) if name.lower() == "value"]
    numbers = [value for _, value in pairs if value is not None]
    try:
        read = read_object(body).uint64("value")
    except InvalidRequest:
        # "-0" cannot be told from 0 here; json.dumps never writes it.
        assert not all(type(number) is int and 0 <= number < 2**64 for number in numbers) or "NaN" in str(body)
    else:
        assert read == (numbers[-1] if numbers else 0)


def test_values_are_not_in_errors_or_reprs():
    body = b'{"secret":"c2VjcmV0!","other":"hunter2"}'
    fields = read_object(body)
    with pytest.raises(InvalidRequest) as refused:
        fields.bytes("secret")
    assert "c2VjcmV0" not in str(refused.value) + repr(refused.value) + repr(fields)
    with pytest.raises(InvalidRequest) as refused:
        read_object(b'{"secret":"hunter2"')
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__
