"""The access rules: what is allowed, what is not, and what is not even a rule."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.access import AccessRule, AccessRules, Decision
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern

STORE = "/confidential_bookstore.api.bookstore.v1.BookstoreService"
PACKAGE = "/confidential_bookstore.api.bookstore.v1.BookstoreService".replace(".", r"\.")


def matches(*methods, **more):
    return tuple(Match(path=Pattern(f"{PACKAGE}/{method}"), **more) for method in methods)


RULES = AccessRules(
    [
        AccessRule("buyer-buys", ("bookbuyer",), matches("BuyBook", "GetBook")),
        AccessRule("auditor-reads-all", ("auditor", "inspector"), matches(".*")),
        AccessRule("auditor-by-name", ("auditor",), matches("BuyBook")),
        AccessRule("never", ("bookthief",), matches(".*", methods=frozenset({"GET"}))),
        AccessRule("by-header", ("courier",), matches("GetBook", headers=(("client-app", Pattern("book.*")),))),
    ]
)


@pytest.mark.parametrize(
    ("source", "method", "allowed", "rule"),
    [
        ("bookbuyer", f"{STORE}/BuyBook", True, "buyer-buys"),
        ("bookbuyer", f"{STORE}/GetSales", False, "deny-by-default"),
        ("bookthief", f"{STORE}/BuyBook", False, "deny-by-default"),
        ("auditor", f"{STORE}/GetSales", True, "auditor-reads-all"),
        ("auditor", f"{STORE}/BuyBook", True, "auditor-reads-all"),
        ("inspector", f"{STORE}/GetSales", True, "auditor-reads-all"),
        ("auditor", f"{STORE}X/GetSales", False, "deny-by-default"),
        ("auditor", "/confidential_bookstore.api.bookstore.v1/GetSales", False, "deny-by-default"),
        ("BOOKBUYER", f"{STORE}/BuyBook", False, "deny-by-default"),
        ("bookbuyer", f"{STORE}/buybook", False, "deny-by-default"),
        ("", "", False, "deny-by-default"),
        ("bookthief", "/grpc.health.v1.Health/Check", True, "open-to-every-marble"),
        ("bookthief", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True, "open-to-every-marble"),
        ("bookthief", "/grpc.health.v1.HealthX/Check", False, "deny-by-default"),
    ],
)
def test_decisions(source, method, allowed, rule):
    assert RULES.allow(source, method) == Decision(allowed=allowed, rule=rule)


def test_no_rules_allow_nothing():
    for text in ("", "  \n", "[]"):
        assert not AccessRules.from_json(text).allow("bookbuyer", f"{STORE}/BuyBook").allowed


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"client-app": "bookbuyer"}, True),
        ({"client-app": "bookbuyer,bookthief"}, True),
        ({"client-app": "a bookbuyer"}, False),
        ({"Client-App": "bookbuyer"}, False),
    ],
)
def test_headers(headers, allowed):
    assert RULES.allow("courier", f"{STORE}/GetBook", headers).allowed is allowed


def test_where_headers_matter():
    assert RULES.needs_headers("courier", f"{STORE}/GetBook")
    assert not RULES.needs_headers("courier", f"{STORE}/BuyBook")
    assert not RULES.needs_headers("bookbuyer", f"{STORE}/BuyBook")


def test_json_and_back():
    assert AccessRules.from_json(RULES.to_json()).rules == RULES.rules


def rule(**changes):
    return {"name": "n", "sources": ["s"], "matches": [{"path": "/a.B/C"}]} | changes


def match(**changes):
    return json.dumps([rule(matches=[changes])])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "not a list"),
        ("[1]", "access rule 0"),
        (json.dumps([rule(), rule(name="m", extra=1)]), "access rule 1 has other keys"),
        (json.dumps([{"name": "n", "source": "s", "methods": ["/a.B/C"]}]), "expected name, sources, matches"),
        (json.dumps([rule(name="")]), "needs a name"),
        (json.dumps([rule(sources=[])]), "list of sources"),
        (json.dumps([rule(sources="s")]), "list of sources"),
        (json.dumps([rule(sources=["s", ""])]), "list of sources"),
        (json.dumps([rule(name="deny-by-default")]), "reserved"),
        (json.dumps([rule(name="open-to-every-marble")]), "reserved"),
        (json.dumps([rule(matches=[])]), "list of matches"),
        (json.dumps([rule(matches="/a.B/C")]), "list of matches"),
        (json.dumps([rule(matches=["/a.B/C"])]), "match with other keys"),
        (match(path="/a", method="POST"), "match with other keys"),
        (match(path=3), "no text"),
        (match(path="("), "RE2 does not take"),
        (match(path="(?=a)"), "RE2 does not take"),
        (match(path="(a{1,100}){1,100}"), "RE2 does not take"),
        (match(path="a{1,900}"), "too large"),
        (match(methods="POST"), "other methods"),
        (match(methods=["post"]), "other methods"),
        (match(methods=[1]), "other methods"),
        (match(methods=[]), "other methods"),
        (match(methods=[["POST"]]), "other methods"),
        (match(methods=["POST", "BUY"]), "other methods"),
        ('[{"name": "n", "sources": ["s"], "matches": [{"path": "/a", "path": ".*"}]}]', "stands twice"),
        (json.dumps([rule(sources=["*"])]), "wildcard"),
        (json.dumps([rule(sources=["s", "book*"])]), "wildcard"),
        (match(path="\ud800"), "RE2 does not take"),
        (match(headers={":path": ".*"}), "other headers"),
        (match(headers=["a"]), "other headers"),
        (match(headers={"A": "b"}), "other headers"),
        (match(headers={"a": ["b"]}), "no text"),
        (match(headers={"a": "*"}), "RE2 does not take"),
        (json.dumps([rule(), rule()]), "same name: got n"),
    ],
)
def test_malformed_rules(document, words):
    with pytest.raises(ConfigurationError, match=words):
        AccessRules.from_json(document)


names = st.sampled_from(["a", "b", "c"])
methods = st.builds("{}/{}".format, st.sampled_from(["/p.S", "/p.T"]), st.sampled_from(["M", "N"]))
patterns = st.sampled_from(["/p.S/M", "/p.S/.*", "/p.(S|T)/N", ".*", "/p", ""])
rules = st.lists(st.tuples(st.lists(names, min_size=1), st.lists(patterns, min_size=1, max_size=3)), max_size=4)


@given(rules, names, methods)
def test_first_rule_that_fits_decides(described, source, method):
    """Against the plain reading of the rules, one after the other, with Python's own regular expressions."""
    own = [
        AccessRule(f"rule-{i}", tuple(sources), tuple(Match(path=Pattern(text)) for text in texts))
        for i, (sources, texts) in enumerate(described)
    ]
    expected = next(
        (
            f"rule-{i}"
            for i, (sources, texts) in enumerate(described)
            if source in sources and any(re.fullmatch(text, method) for text in texts)
        ),
        "deny-by-default",
    )
    decision = AccessRules(own).allow(source, method)
    assert decision == Decision(allowed=expected != "deny-by-default", rule=expected)


@pytest.mark.parametrize(
    ("methods", "allowed"), [(["*"], True), (["GET", "*"], True), (["GET"], False), (["POST"], True)]
)
def test_grpc_is_always_post(methods, allowed):
    assert AccessRules.from_json(match(methods=methods)).allow("s", "/a.B/C").allowed is allowed


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["POST", "*", "(", "a"])
keys = st.sampled_from(["name", "sources", "matches", "path", "methods", "headers"]) | st.text(max_size=3)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
nearly = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text() | values,
            "sources": st.lists(st.text() | leaves, max_size=2) | values,
            "matches": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "path": st.text() | values,
                        "methods": st.lists(st.sampled_from(["POST", "GET", "*"]) | values) | values,
                        "headers": st.dictionaries(keys, st.text() | leaves) | values,
                    },
                )
                | values
            )
            | values,
        }
    )
    | values,
    max_size=2,
)


@settings(max_examples=1000, deadline=None)
@given(
    st.text() | st.binary().map(lambda raw: raw.decode(errors="surrogateescape")) | (nearly | values).map(json.dumps)
)
def test_any_text_is_rules_or_a_configuration_error(text):
    try:
        rules = AccessRules.from_json(text)
    except ConfigurationError as error:
        assert error.message  # noqa: PT017  # either outcome is right; anything else is raised
    else:
        assert AccessRules.from_json(rules.to_json()).rules == rules.rules
        assert not any("*" in source for rule in rules.rules for source in rule.sources)


@pytest.mark.parametrize("value", ["\udc80", "a\x00b", "\n"])
def test_whatever_a_caller_sends_is_an_answer(value):
    rules = AccessRules.from_json(match(headers={"a": "[a-z]*"}))
    assert not rules.allow("s", "/a.B/C", {"a": value}).allowed
    assert not rules.allow("s", f"/a.B/{value}").allowed


def test_the_example_of_the_reference_is_accepted(pytestconfig):
    page = (pytestconfig.rootpath / "docs/reference/manifest.md").read_text()
    (example,) = [line.strip() for line in page.splitlines() if line.startswith("    [{")]
    rules = AccessRules.from_json(example)
    assert rules.allow("bookbuyer", "/shop.v1.BookstoreService/BuyBook").allowed
    assert not rules.allow("bookthief", "/shop.v1.BookstoreService/BuyBook").allowed
