"""Patterns as plain texts: exactly the same, or not at all."""

from __future__ import annotations

import re

import pytest
from export_policies import SERVICES, STORE
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import Documents
from mesh.export.literal import ANY, Kind, Literal, known_methods, literal, matching_methods, normal


def fits(plain, text):
    return {
        Kind.ANY: True,
        Kind.EXACT: text == plain.text,
        Kind.PREFIX: text.startswith(plain.text),
        Kind.SUFFIX: text.endswith(plain.text),
    }[plain.kind]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/a", Literal("/a")),
        ("^/a$", Literal("/a")),
        (r"/pkg\.Service/M", Literal("/pkg.Service/M")),
        ("/pkg[.]Service/M", Literal("/pkg.Service/M")),
        ("/a.*", Literal("/a", Kind.PREFIX)),
        (".*/a", Literal("/a", Kind.SUFFIX)),
        (".*", ANY),
        (r"/a\.*", None),
        (r"/a\$", Literal("/a$")),
        ("/a.b", None),
        (".*a.*", None),
        ("/a+", None),
        ("/a|/b", None),
        ("(?i)/a", None),
        (r"/\d", None),
        ("/[ab]", None),
        ("/[^a]", None),
    ],
)
def test_known_patterns(pattern, expected):
    assert literal(Pattern(pattern)) == expected


@given(st.text(r"ab./\*[]^$+?(){}|", max_size=8), st.text("ab./*$^", max_size=6))
def test_a_plain_text_is_exactly_the_pattern(pattern, text):
    try:
        compiled = Pattern(pattern)
    except ValueError:
        return
    plain = literal(compiled)
    if plain is not None:
        assert fits(plain, text) == compiled.matches(text)
        assert fits(plain, plain.text)
        assert compiled.matches(plain.text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_escaped_texts_are_plain(text, other):
    plain = literal(Pattern(re.escape(text)))
    if plain is not None:
        assert plain == Literal(text)
        assert fits(plain, other) == (text == other)


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", "/a/.", "/a%2fb", "/a%5Cb", "/a\\b", "/a?b"])
def test_paths_that_never_arrive(path):
    assert not normal(Literal(path))


def test_methods_of_a_service():
    documents = Documents(SERVICES)
    methods = known_methods(documents)
    assert set(methods) == {STORE}
    found = matching_methods(Pattern(rf"/{STORE}/(Buy|List)Books?"), SERVICES["bookstore/bookstore"], methods)
    assert found == (Literal(f"/{STORE}/ListBooks"), Literal(f"/{STORE}/BuyBook"))
    assert matching_methods(Pattern(".*x.*"), SERVICES["shop/shop"], methods) is None
    assert matching_methods(Pattern(".*x.*"), SERVICES["bookstore/bookstore"], {}) is None
