"""Access log lines become refusals, and not more of them than there is room for."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.reading import read_folder
from mesh.events import Refusals, read_line

STORE = "bookstore/bookstore"
THIEF, BUYER = "bookthief.bookthief.cluster.local", "bookbuyer.bookbuyer.cluster.local"
NOTHING_MATCHED = "rbac_access_denied_matched_policy[none]"


@pytest.fixture(scope="module")
def policy(pytestconfig) -> Policy:
    return Policy(read_folder(pytestconfig.rootpath / "deploy/manifests/smi"))


def line(peer: str = THIEF, **fields) -> bytes:
    entry = {"kind": "l7", "destination": STORE, "time": "2026-01-01T00:00:00Z", "peer": peer, "method": "POST"}
    return json.dumps(entry | {"path": "/a/B", "details": NOTHING_MATCHED} | fields).encode()


def test_a_request(policy):
    refusal = read_line(line(), policy)
    assert refusal is not None
    assert (refusal.source, refusal.destination, refusal.what) == (THIEF, STORE, "POST /a/B")
    assert (refusal.layer, refusal.rule) == ("L7", "deny-by-default")
    assert refusal.near.startswith("traffic-access-v1.yaml:")


def test_a_connection(policy):
    refusal = read_line(line(kind="l4", method=None, path=None), policy)
    assert refusal is not None
    assert (refusal.what, refusal.layer, refusal.rule) == ("connection", "L4", "deny-by-default")


def test_a_path_that_no_rule_can_speak_of(policy):
    details = "rbac_access_denied_matched_policy[malformed-path]"
    refusal = read_line(line(BUYER, path="/a%2Fb", details=details), policy)
    assert refusal is not None
    assert refusal.rule == "malformed-path"


def test_without_a_policy_and_without_a_certificate():
    refusal = read_line(line(""), None)
    assert refusal is not None
    assert (refusal.source, refusal.rule) == ("(no certificate of the mesh)", "deny-by-default")


@pytest.mark.parametrize(
    "no_refusal", [line(details="via_upstream"), b"", b"null", b"[]", b"{}", b"starting main dispatch loop", b"\xff"]
)
def test_what_is_no_refusal(policy, no_refusal):
    assert read_line(no_refusal, policy) is None


@given(st.binary())
def test_no_line_is_an_error(text):
    refusals = Refusals()
    refusals.take(text, None)
    assert refusals.latest() == []


def test_they_are_counted_and_the_first_is_told(policy):
    told = []
    refusals = Refusals(told.append)
    for second in range(5):
        refusals.take(line(time=f"2026-01-01T00:00:0{second}Z"), policy)
    assert len(told) == 1
    [refusal] = refusals.latest()
    assert (refusal.count, refusal.last) == (5, "2026-01-01T00:00:04Z")


def test_a_caller_with_ever_new_paths_gets_one_row_for_them_and_takes_nobody_elses(policy):
    told = []
    refusals = Refusals(told.append)
    refusals.take(line(BUYER), policy)
    for number in range(5_000):
        refusals.take(line(path=f"/{number}"), policy)
    rows = refusals.latest()
    assert len(told) == len(rows) < 50
    assert [row.count for row in rows if row.source == BUYER] == [1]
    assert sum(row.count for row in rows if row.source == THIEF) == 5_000
    assert max(rows, key=lambda row: row.count).what == "(others)"


def test_a_long_path_is_cut(policy):
    refusals = Refusals()
    refusals.take(line(path="/" + "x" * 5_000), policy)
    assert len(refusals.latest()[0].what) < 300
