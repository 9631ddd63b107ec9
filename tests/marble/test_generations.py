"""Which roots and certificates count at which time, and what is no answer of a coordinator."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import json
import timeit

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from marble_pki import MarblePki, pem_of

import coordinator.deployment.generations
from confidential_bookstore.errors import CoordinatorUntrusted
from confidential_bookstore.marble.callers import Callers
from confidential_bookstore.marble.generations import Generations, issuer_key_id
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.peer import Peer

FIRST = MarblePki()
SECOND = FIRST.rotated()
THIRD = SECOND.rotated()


def pem(pki: MarblePki) -> str:
    return pem_of(pki.marble_root).decode()


def key_id(pki: MarblePki) -> bytes:
    chain, _ = pki.leaf("bookstore")
    return issuer_key_id(x509.load_pem_x509_certificates(chain)[0])


REPORT = {
    "generation": 2,
    "marbleRoot": pem(THIRD),
    "previous": [
        {"generation": 1, "marbleRoot": pem(SECOND), "until": 200.5, "revoked": {"bookthief": 50}},
        {"generation": 0, "marbleRoot": pem(FIRST), "until": 100, "revoked": {"bookthief": 40, "bookstore": 60.0}},
    ],
}
KNOWN = Generations.parse(REPORT)


@pytest.mark.parametrize(
    ("now", "marble_type", "roots"),
    [
        (0, None, [THIRD, SECOND, FIRST]),
        (0, "bookthief", [THIRD, SECOND, FIRST]),
        (45, "bookthief", [THIRD, SECOND]),
        (50, "bookthief", [THIRD]),
        (60, "bookstore", [THIRD, SECOND]),
        (60, "bookbuyer", [THIRD, SECOND, FIRST]),
        (60, None, [THIRD, SECOND, FIRST]),
        (100, None, [THIRD, SECOND]),
        (200.5, "bookbuyer", [THIRD]),
    ],
)
def test_accepted_roots(now, marble_type, roots):
    assert KNOWN.accepted_roots(now, marble_type) == b"".join(pem_of(pki.marble_root) for pki in roots)


def test_lasting_roots_leave_out_what_will_be_revoked():
    assert KNOWN.lasting_roots(0, "bookthief") == pem_of(THIRD.marble_root)
    assert KNOWN.lasting_roots(0, "bookstore") == KNOWN.accepted_roots(60, "bookstore")
    assert KNOWN.lasting_roots(150, "bookbuyer") == KNOWN.accepted_roots(150)
    assert KNOWN.revoked_roots(49, "bookthief") == (pem_of(FIRST.marble_root),)
    assert KNOWN.revoked_roots(49, "bookbuyer") == ()


def test_refusals():
    assert KNOWN.refusal(key_id(THIRD), "bookthief", 1e12) is None
    assert KNOWN.refusal(key_id(SECOND), "bookthief", 49.9) is None
    reason = KNOWN.refusal(key_id(SECOND), "bookthief", 50)
    assert reason == (
        "an update of the manifest has revoked the certificates of bookthief of generation 1; the present one is 2"
    )
    assert KNOWN.refusal(key_id(SECOND), "bookbuyer", 50) is None
    for stranger in (key_id(MarblePki()), b""):
        assert "no longer trusted" in KNOWN.refusal(stranger, "bookbuyer", 0)
    assert "no longer trusted" in KNOWN.refusal(key_id(FIRST), "bookbuyer", 100)


def test_deadlines():
    assert [KNOWN.next_deadline(now) for now in (0, 40, 50, 60, 100, 200.5)] == [40, 50, 60, 100, 200.5, None]


def test_live_identity_before_it_is_told_and_after(world):
    live = LiveIdentity(world.identity("bookbuyer", SECOND), clock=lambda: 10.0)
    assert live.roots("bookstore") == live.lasting_roots("bookstore") == pem_of(SECOND.marble_root)
    assert (live.refusal(b"any", "bookthief"), live.outdated, live.next_deadline()) == (None, False, None)
    live.learn(KNOWN)
    assert (live.outdated, live.next_deadline(), live.accepted_until, live.revoked) == (True, 40, 200.5, True)
    live.replace(world.identity("bookbuyer", THIRD))
    assert (live.outdated, live.revoked, live.version) == (False, False, 2)
    newer = THIRD.rotated()
    live.replace(world.identity("bookbuyer", newer))  # it has renewed before it hears of the update
    assert live.roots().startswith(KNOWN.accepted_roots(10.0))
    assert live.roots().endswith(pem_of(newer.marble_root))
    assert live.lasting_roots("bookthief") == pem_of(THIRD.marble_root) + pem_of(newer.marble_root)
    assert live.refusal(key_id(newer), "bookstore") is None
    assert live.outdated is False


def test_generations_of_another_deployment_are_forgotten(world):
    live = LiveIdentity(world.identity("bookbuyer", THIRD))
    live.learn(KNOWN)
    live.replace(world.identity("bookbuyer", MarblePki()))
    assert live.generations is None


def changed(**changes):
    return copy.deepcopy(REPORT) | changes


def with_previous(**changes):
    report = copy.deepcopy(REPORT)
    report["previous"][0] |= changes
    return report


@pytest.mark.parametrize(
    "report",
    [
        None, [], "x", 3, {}, changed(more=1), changed(generation=True), changed(generation=-1),
        changed(generation=2.0),
        changed(generation=1), changed(marbleRoot=None), changed(marbleRoot="x"), changed(marbleRoot=pem(FIRST) * 2),
        changed(marbleRoot=pem(SECOND)), changed(previous={}), changed(previous=[None]),
        changed(previous=REPORT["previous"] * 40), with_previous(generation=0), with_previous(until="1"),
        with_previous(until=float("nan")), with_previous(until=10**400), with_previous(revoked=[]),
        with_previous(revoked={"bookthief": None}), with_previous(revoked={"bookthief": float("inf")}),
        with_previous(revoked={"bookthief": True}), with_previous(extra=1),
    ],
)  # fmt: skip
def test_malformed_reports(report):
    with pytest.raises(CoordinatorUntrusted, match="generations are malformed"):
        Generations.parse(report)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([pem(FIRST)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*REPORT, "until"]), inner, max_size=4),
)


@given(json_values)
def test_parsing_ends_in_a_value_or_in_our_error(value):
    with contextlib.suppress(CoordinatorUntrusted):
        assert Generations.parse(value).number >= 0


def test_report_of_a_first_generation():
    report = json.loads(json.dumps({"generation": 0, "marbleRoot": pem(FIRST), "previous": []}))
    generations = Generations.parse(report)
    assert (generations.number, generations.previous, generations.next_deadline(0)) == (0, (), None)


def test_what_the_coordinator_says_is_understood():
    """The coordinator's own words, after two updates."""
    now = dt.datetime.fromtimestamp(1000, dt.UTC)
    theirs = coordinator.deployment.generations.Generations()
    theirs = theirs.superseded(FIRST.marble_root, {"bookthief": now}, now)
    theirs = theirs.superseded(SECOND.marble_root, {"bookstore": now + coordinator.deployment.generations.GRACE}, now)
    ours = Generations.parse(json.loads(json.dumps(theirs.report(THIRD.marble_root, now))))
    assert (ours.number, [each.number for each in ours.previous]) == (2, [1, 0])
    assert ours.refusal(key_id(FIRST), "bookthief", 1000) is not None
    assert ours.refusal(key_id(SECOND), "bookthief", 1000) is None
    assert [ours.refusal(key_id(pki), "bookstore", 1004.9) for pki in (FIRST, SECOND, THIRD)] == [None] * 3
    assert [ours.refusal(key_id(pki), "bookstore", 1005) is None for pki in (FIRST, SECOND, THIRD)] == [0, 0, 1]


def test_judging_a_call_costs_next_to_nothing(world):
    live = LiveIdentity(world.identity("bookbuyer", THIRD), clock=lambda: 0.0)
    live.learn(KNOWN)
    callers = Callers(live)
    for pki in (THIRD, SECOND):  # those who have renewed cost less than those who have not
        peer = Peer("bookstore", "u", issuer_key_id=key_id(pki))
        seconds = min(timeit.repeat(lambda: callers.admit("ipv4:127.0.0.1:1", peer), number=2000, repeat=5)) / 2000  # noqa: B023
        assert seconds < 10e-6  # about 0.4 and 1 microseconds; the bound leaves room for a machine that is busy


async def test_noting_connections_is_bounded(world):
    callers = Callers(LiveIdentity(world.identity("bookstore")))
    for number in range(10_000):
        callers.admit(f"ipv4:127.0.0.1:{number}", Peer("bookbuyer", "u"))
    assert 2048 <= len(callers._peers) <= 4096
    assert "ipv4:127.0.0.1:9999" in callers._peers
