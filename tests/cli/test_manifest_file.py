"""Manifests in files: the bytes are the identity, so YAML becomes exactly what MarbleRun's command line makes of it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.manifest_file import read_manifest_file, yaml_to_json
from confidential_bookstore.errors import ConfigurationError

SOURCE = "manifest.yaml"


def converted(text: str) -> bytes:
    return yaml_to_json(text.encode(), SOURCE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b: 1\na: 2", b'{"a":2,"b":1}'),
        ("a: {c: x, B: z}\n", b'{"a":{"B":"z","c":"x"}}'),
        ("a: '<&>'", rb'{"a":"\u003c\u0026\u003e"}'),
        ("a: ä€😀", '{"a":"ä€😀"}'.encode()),
        ('a: "\\u2028"', rb'{"a":"\u2028"}'),
        ("a: 'yes'", b'{"a":"yes"}'),
        ('a: "0777"', b'{"a":"0777"}'),
        ("a: 2030-01-01T00:00:00Z", b'{"a":"2030-01-01T00:00:00Z"}'),
        ("a: 1.2.3.4", b'{"a":"1.2.3.4"}'),
        ("a: 10:30", b'{"a":"10:30"}'),
        ("a: -7", b'{"a":-7}'),
        ("a: 18446744073709551615", b'{"a":18446744073709551615}'),
        ("a: true\nb: False\nc: null\nd: ~\ne:", b'{"a":true,"b":false,"c":null,"d":null,"e":null}'),
        ("a: [1, two, [3]]", b'{"a":[1,"two",[3]]}'),
        ("a: |\n  one\n  two\n", b'{"a":"one\\ntwo\\n"}'),
        ("a: >-\n  one\n  two\n", b'{"a":"one two"}'),
        ("x: &x {k: v}\nz: *x", b'{"x":{"k":"v"},"z":{"k":"v"}}'),
        ("a: '{{ pem .MarbleRun.RootCA.Cert }}'", b'{"a":"{{ pem .MarbleRun.RootCA.Cert }}"}'),
    ],
)
def test_yaml(text, expected):
    assert converted(text) == expected


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "a: {b: 1, b: 1}", "1: x", "true: x", "? [a]\n: x", "<<: {a: b}", "- a", "a", "", "a: b: c", "a: ["],
)
def test_not_a_manifest(text):
    with pytest.raises(ConfigurationError):
        converted(text)


@pytest.mark.parametrize(
    "value",
    ["yes", "No", "on", "OFF", "y", "N", "0777", "0x1f", "0b1", "0o7", "1_000", "+1", "-0", "1.5", "1e3", ".5", "1.",
     ".inf", "-.INF", ".nan", "18446744073709551616", "-9223372036854775809", "!!binary aGk=",
     "!!timestamp 2001-01-01"],
)  # fmt: skip
def test_what_versions_of_yaml_read_differently_is_not_guessed(value):
    with pytest.raises(ConfigurationError):
        converted(f"a: {value}")


def test_the_place_is_told(tmp_path):
    file = tmp_path / "manifest.yaml"
    file.write_text("Marbles:\n  a: {Debug: yes}\n")
    with pytest.raises(ConfigurationError, match=r"yes means different things.*quote it.*line 2, column 14"):
        read_manifest_file(file)


def test_json_stays_as_it_is(tmp_path):
    file = tmp_path / "manifest.json"
    for raw in (b'{"b": 1,\n "a": 2}\n', b'{"a": 1, "a": 2}', b"[]", b'{"a": "<"}'):
        file.write_bytes(raw)
        assert read_manifest_file(file) == raw


def test_neither(tmp_path):
    file = tmp_path / "manifest"
    for raw in (
        b"\xff\xfe",
        b"{",
        b"\0",
        b'a: "\\ud800"',
        b"a: !!python/object:os.system {}",
        b"- &a [*a]",
        b"a: &a [*a]",
    ):
        file.write_bytes(raw)
        with pytest.raises(ConfigurationError):
            read_manifest_file(file)


documents = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1)
        | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc<&", min_size=1), inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)  # fmt: skip


@given(documents)
def test_json_is_yaml_with_the_same_meaning(document):
    assert json.loads(converted(json.dumps(document, ensure_ascii=False))) == document


@given(st.binary(max_size=64))
def test_any_bytes(raw):
    try:
        json.loads(yaml_to_json(raw, SOURCE))
    except ConfigurationError:
        return
