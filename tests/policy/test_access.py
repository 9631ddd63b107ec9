"""The access rules: what is allowed, what is not, and what is not even a rule."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.access import AccessRule, AccessRules, Decision

STORE = "/confidential_bookstore.api.bookstore.v1.BookstoreService"
RULES = AccessRules(
    [
        AccessRule("buyer-buys", "bookbuyer", (f"{STORE}/BuyBook", f"{STORE}/GetBook")),
        AccessRule("auditor-reads-all", "auditor", (f"{STORE}/*",)),
        AccessRule("auditor-by-name", "auditor", (f"{STORE}/BuyBook",)),
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


def test_from_json():
    text = json.dumps([{"name": r.name, "source": r.source, "methods": list(r.methods)} for r in RULES.rules])
    assert AccessRules.from_json(text).rules == RULES.rules


def rule(**changes):
    return {"name": "n", "source": "s", "methods": [f"{STORE}/M"]} | changes


@pytest.mark.parametrize(
    ("document", "match"),
    [
        ("{", "not JSON"),
        ("{}", "not a list"),
        ("[1]", "access rule 0"),
        (json.dumps([rule(), rule(name="m", extra=1)]), "access rule 1 has other keys"),
        (json.dumps([{"name": "n", "source": "s"}]), "expected name, source, methods"),
        (json.dumps([rule(name="")]), "needs a name"),
        (json.dumps([rule(source="")]), "needs a name and a source"),
        (json.dumps([rule(source=["s"])]), "needs a name and a source"),
        (json.dumps([rule(name="deny-by-default")]), "reserved"),
        (json.dumps([rule(name="open-to-every-marble")]), "reserved"),
        (json.dumps([rule(methods=[])]), "list of methods"),
        (json.dumps([rule(methods="/a.B/C")]), "list of methods"),
        (json.dumps([rule(methods=["*"])]), "names no method"),
        (json.dumps([rule(methods=["/*"])]), "names no method"),
        (json.dumps([rule(methods=["/*/M"])]), "names no method"),
        (json.dumps([rule(methods=["a.B/C"])]), "names no method"),
        (json.dumps([rule(methods=["/a.B/C*"])]), "names no method"),
        (json.dumps([rule(methods=["/a.B/C\n"])]), "names no method"),
        (json.dumps([rule(methods=[3])]), "names no method"),
        (json.dumps([rule(), rule()]), "same name: got n"),
    ],
)
def test_malformed_rules(document, match):
    with pytest.raises(ConfigurationError, match=match):
        AccessRules.from_json(document)


names = st.sampled_from(["a", "b", "c"])
services = st.sampled_from(["/p.S", "/p.T"])
methods = st.builds("{}/{}".format, services, st.sampled_from(["M", "N"]))
patterns = methods | st.builds("{}/*".format, services)
rules = st.lists(st.tuples(names, st.lists(patterns, min_size=1, max_size=3)), max_size=4)


@given(rules, names, methods)
def test_first_rule_that_matches_decides(described, source, method):
    """Against the plain reading of the rules, one after the other."""
    own = [AccessRule(f"rule-{i}", s, tuple(m)) for i, (s, m) in enumerate(described)]
    service = method.rpartition("/")[0]
    expected = next(
        (r.name for r in own if r.source == source and {method, f"{service}/*"} & set(r.methods)), "deny-by-default"
    )
    decision = AccessRules(own).allow(source, method)
    assert decision == Decision(allowed=expected != "deny-by-default", rule=expected)


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_rules_or_a_configuration_error(text):
    try:
        AccessRules.from_json(text)
    except ConfigurationError as error:
        assert error.message  # noqa: PT017  # either outcome is right; anything else is raised


def test_the_example_of_the_reference_is_accepted(pytestconfig):
    page = (pytestconfig.rootpath / "docs/reference/manifest.md").read_text()
    (example,) = [line.strip() for line in page.splitlines() if line.startswith("    [{")]
    rules = AccessRules.from_json(example)
    assert rules.allow("bookbuyer", "/shop.v1.BookstoreService/BuyBook").allowed
    assert not rules.allow("bookthief", "/shop.v1.BookstoreService/BuyBook").allowed
