"""`Policy.allow`, compared with a plain reading of the documents, and what it promises whatever they say."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_strategies import (
    ACCOUNTS,
    SERVICES,
    STORE,
    Request,
    connections,
    documents,
    grpc_requests,
    http_requests,
    paths,
    requests,
    targets,
)

from confidential_bookstore.policy.access import AccessRules, Decision
from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.marble_rules import access_rules
from confidential_bookstore.policy.smi.model import Documents, HttpRule, MeshConfig, Origin, Target, TcpRule
from confidential_bookstore.policy.smi.path import normalised
from confidential_bookstore.policy.smi.pattern_set import PatternSet

DENIED = Decision(allowed=False, rule="deny-by-default")
BUYER, THIEF, BOOKSTORE, _, _ = ACCOUNTS
POLICIES, REQUESTS = (1000 if os.environ.get("CI") else 100), 10  # drawn: 10,000 requests in CI
ORIGIN = Origin("access.yaml", 7, "TrafficTarget bookstore/buyers")


@dataclass(frozen=True)
class Asked:
    """Each of the requests that were drawn, and the same about every other pair of accounts."""

    requests: list[Request]

    def __iter__(self) -> Iterator[Request]:
        for request, source, destination in itertools.product(self.requests, ACCOUNTS, ACCOUNTS):
            yield replace(request, source=source, destination=destination)


def asked_of_all(one: st.SearchStrategy[Request]) -> st.SearchStrategy[Asked]:
    return st.builds(Asked, st.lists(one, min_size=REQUESTS, max_size=REQUESTS))


def ask(policy: Policy, request: Request) -> Decision:
    return policy.allow(
        request.source, request.destination, request.port, request.method, request.path, request.headers
    )


def plain_path(path: str) -> str | None:
    """Rewrites the text again and again, as RFC 3986 (5.2.4) does."""
    if not path or path[0] != "/" or re.search(r"[\x00-\x20\x7f#]", path):
        return None
    path = path.split("?", 1)[0]
    if re.search("%(2f|5c)", path, re.IGNORECASE):
        return None
    path = re.sub(r"/(\.|\.\.);[^/]*", r"/\1", path)
    if "%00" in path:
        return None
    unreserved = "-._~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    path = re.sub("%[0-9a-fA-F]{2}", lambda m: c if (c := chr(int(m[0][1:], 16))) in unreserved else m[0], path)
    path = path.replace("\\", "/")
    before = None
    while path != before:
        before = path
        path = re.sub(r"/\.(/|$)", "/", path, count=1)
        if path == before:
            path = re.sub(r"^/\.\.(/|$)|/(?!\.\.(/|$))[^/]*/\.\.(/|$)", "/", path, count=1)
    if "//" in path:
        path = "//" if not path.strip("/") else re.sub("/+", "/", path)
    return path if re.fullmatch(r"[A-Za-z0-9/_.~!$&'()*+,;=:@-]*", path) else None


def plain(found: Documents, request: Request) -> Decision:
    """The same question, from the table of the docstring and with Python's own regular expressions."""
    path = plain_path(request.path)
    if request.method is not None and path is None:
        return Decision(allowed=False, rule="malformed-path")
    if found.config.permissive:
        return Decision(allowed=True, rule="permissive-mode")
    for name in sorted(found.targets):
        target = found.targets[name]
        if request.source not in target.sources or request.destination != target.destination:
            continue
        for rule in target.rules:
            if request.method is None:
                if isinstance(rule, TcpRule) and (rule.ports == frozenset() or request.port in rule.ports):
                    return Decision(allowed=True, rule=name)
            elif isinstance(rule, HttpRule):
                for match in rule.matches:
                    fits = match.path is None or re.fullmatch(match.path.text, path)
                    if match.methods and request.method not in match.methods:
                        fits = None
                    for header, pattern in match.headers:
                        if header not in request.headers or not re.fullmatch(pattern.text, request.headers[header]):
                            fits = None
                    if fits:
                        return Decision(allowed=True, rule=name)
    return DENIED


@settings(max_examples=POLICIES, deadline=None)
@given(documents(permissive=st.sampled_from((False, False, False, True))), asked_of_all(requests))
def test_same_as_a_plain_reading(found, asked):
    policy = Policy(found)
    for request in asked:
        assert ask(policy, request) == plain(found, request), request
        assert ask(policy, request) == plain(found, request), "asked again"


@settings(max_examples=3000)
@given(paths)
def test_paths_same_as_by_rewriting(path):
    assert normalised(path) == plain_path(path)


@settings(max_examples=POLICIES, deadline=None)
@given(documents(permissive=st.just(False)), asked_of_all(grpc_requests))
def test_marbles_answer_the_same(found, asked):
    policy = Policy(found)
    rules = {name: AccessRules.from_json(each.to_json()) for name, each in access_rules(found).items()}
    assert set(rules) == {service.marble for service in SERVICES.values()}
    for request in asked:
        inside = rules[request.destination.name]
        expected = ask(policy, request)
        assert inside.allow(request.source.name, request.path, request.headers) == expected
        if not inside.needs_headers(request.source.name, request.path):
            assert inside.allow(request.source.name, request.path) == expected


@given(documents(), st.lists(requests, max_size=5), targets(name="ns/another"))
def test_one_target_more_takes_nothing_away(found, asked, another):
    before = Policy(found)
    after = Policy(replace(found, targets={**found.targets, another.name: another}))
    for request in asked:
        assert ask(after, request).allowed >= ask(before, request).allowed
        if (request.source in another.sources, request.destination) != (True, another.destination):
            assert ask(after, request) == ask(before, request)


@given(documents(), st.lists(requests, max_size=5))
def test_without_targets_nothing_is_allowed(found, asked):
    policy = Policy(replace(found, targets={}, config=MeshConfig()))
    assert not any(ask(policy, request).allowed for request in asked)


@given(documents(), st.lists(connections | http_requests, max_size=5))
def test_permissive_mode_opens_the_mesh_and_no_marble(found, asked):
    open_mesh = replace(found, config=MeshConfig(permissive=True))
    for request in asked:
        decision = ask(Policy(open_mesh), request)
        assert decision.rule in ("permissive-mode", "malformed-path")
        assert decision.allowed == (request.method is None or plain_path(request.path) is not None)
    closed = access_rules(replace(found, config=MeshConfig()))
    assert {name: each.to_json() for name, each in access_rules(open_mesh).items()} == {
        name: each.to_json() for name, each in closed.items()
    }


@given(documents(), requests)
def test_an_explanation_has_the_decision_and_its_line(found, request):
    policy = Policy(found)
    explained = policy.explain(
        request.source, request.destination, request.port, request.method, request.path, request.headers
    )
    assert explained.decision == ask(policy, request)
    if explained.decision.rule in found.targets:
        assert explained.origin in {rule.origin for rule in found.targets[explained.decision.rule].rules}
    elif not explained.decision.allowed:
        assert explained.origin is None
        about = [target for target in found.targets.values() if target.destination == request.destination]
        assert len(explained.near) >= len(about)


def buyers(*rules: HttpRule | TcpRule) -> Documents:
    target = Target("bookstore/buyers", BOOKSTORE, (BUYER,), rules, ORIGIN)
    return Documents(SERVICES, {target.name: target})


def buys(**parts) -> HttpRule:
    return HttpRule(
        "bookstore/routes", (Match("buy", Pattern(r"/shop\.v1\.BookstoreService/BuyBook"), **parts),), ORIGIN
    )


def test_requests_and_connections_are_two_questions():
    http, tcp = Policy(buyers(buys())), Policy(buyers(TcpRule("bookstore/port", frozenset({14001}), ORIGIN)))
    buy = (BUYER, BOOKSTORE, 14001, "POST", f"{STORE}/BuyBook")
    connect = (BUYER, BOOKSTORE, 14001)
    assert http.allow(*buy) == tcp.allow(*connect) == Decision(allowed=True, rule="bookstore/buyers")
    assert http.allow(*connect) == tcp.allow(*buy) == DENIED
    assert tcp.allow(BUYER, BOOKSTORE, 14002) == DENIED
    assert not http.allow(THIEF, BOOKSTORE, 14001, "POST", f"{STORE}/BuyBook").allowed


def test_connect_is_refused_whatever_the_rules_say():
    everything = Policy(buyers(HttpRule("bookstore/all", (Match("all"),), ORIGIN)))
    assert everything.allow(BUYER, BOOKSTORE, 14001, "GET", "/a").allowed
    assert everything.allow(BUYER, BOOKSTORE, 14001, "CONNECT", "/a").rule == "malformed-path"


def test_what_was_nearby():
    rules = (buys(methods=frozenset({"POST"})), TcpRule("bookstore/port", frozenset({14001}), ORIGIN))
    policy = Policy(buyers(*rules))
    at = "access.yaml:7: TrafficTarget bookstore/buyers"
    assert policy.explain(THIEF, BOOKSTORE, 14001).near == (f"{at} is for bookbuyer.bookbuyer",)
    assert policy.explain(BUYER, BOOKSTORE, 1).near == (f"{at} grants ports 14001, not 1",)
    assert policy.explain(BUYER, BOOKSTORE, 14001, "POST", "/x").near == (f"{at} grants buy, none of which fits",)
    only = Policy(buyers(rules[1]))
    assert only.explain(BUYER, BOOKSTORE, 1, "POST", "/x").near == (f"{at} grants connections, not requests",)


def test_a_match_on_the_host_grants_nothing_inside_a_marble():
    found = buyers(buys(headers=((":authority", Pattern(".*")),)))
    assert Policy(found).allow(BUYER, BOOKSTORE, 1, "POST", f"{STORE}/BuyBook", {":authority": "x"}).allowed
    assert access_rules(found)["bookstore"].rules == ()


@pytest.mark.parametrize("text", ["", "/", "/abc", "a\x00b", "\udc80", "/x\ud800", "é"])
def test_pattern_sets_answer_as_their_patterns_one_by_one(text):
    patterns = [Pattern(each) for each in ("", ".*", "/.*", r"\C*", "[^b]*", "(?s).*", "é", "/(abc)?")]
    expected = [index for index, pattern in enumerate(patterns) if pattern.matches(text)]
    assert PatternSet(patterns).matching(text) == expected


def test_a_pattern_set_that_is_too_large_for_one_automaton():
    patterns = [Pattern(f"(?i).*{'[a-z]' * 60}{index}(a|b).{{3}}x.*") for index in range(3000)]
    text = "q" * 60 + "2999bzzzx"
    assert PatternSet(patterns).matching(text) == [2999]
