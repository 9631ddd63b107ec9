from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import SealedStateError, StateError
from coordinator.deployment.state import CoordinatorState, Phase

NEW = CoordinatorState()
READY = NEW.begin({"privateKey:x": b"key"}, b"root secret")
LOCKED = NEW.lock({"privateKey:x": b"temporary"}, b"temporary root secret")
RUNNING = READY.accept_manifest({"manifest": b"{}", "secret:shared": b"value"})

TRANSITIONS = {
    "begin": lambda state: state.begin({}, b""),
    "lock": lambda state: state.lock({}, b""),
    "restore": lambda state: state.restore({"state": b"3", "manifest": b"{}"}),
    "accept_manifest": lambda state: state.accept_manifest({"manifest": b"{}"}),
    "change": lambda state: state.change({"x": b"y"}),
}
ALLOWED = {
    ("begin", 0): 2,
    ("lock", 0): 1,
    ("restore", 0): 3,
    ("restore", 1): 3,
    ("accept_manifest", 1): 3,
    ("accept_manifest", 2): 3,
    ("change", 3): 3,
}


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("state", [NEW, LOCKED, READY, RUNNING], ids=lambda state: state.phase.name)
def test_what_is_not_allowed_is_refused(name, state):
    expected = ALLOWED.get((name, int(state.phase)))
    if expected is None:
        with pytest.raises(StateError, match=r"^server is not in expected state$"):
            TRANSITIONS[name](state)
    else:
        assert TRANSITIONS[name](state).phase == expected


def test_records_have_marbleruns_keys():
    assert dict(RUNNING.change({"activations:bookstore": b"1"}).records) == {
        "state": b"3",
        "privateKey:x": b"key",
        "rootSecret": b"root secret",
        "manifest": b"{}",
        "secret:shared": b"value",
        "activations:bookstore": b"1",
    }


def test_a_change_takes_out_what_it_says_and_nothing_else():
    full = RUNNING.change({"secret:a": b"1", "secrets": b"2", "package:a": b"3", "pendingUpdate": b"4"})
    after = full.change({"secret:b": b"5"}, without=("secret:", "pendingUpdate"))
    assert set(full.records) - set(after.records) == {"secret:a", "secret:shared", "pendingUpdate"}
    assert after.named("secret:") == {"b": b"5"}


def test_recovery_brings_back_what_was_sealed_and_nothing_of_the_time_between():
    assert dict(LOCKED.restore(RUNNING.records).records) == dict(RUNNING.records)


def test_a_transition_leaves_the_old_state_alone():
    before = dict(RUNNING.records)
    RUNNING.change({"activations:bookstore": b"1"})
    assert dict(RUNNING.records) == before
    with pytest.raises(TypeError):
        RUNNING.records["state"] = b"0"


@given(st.lists(st.dictionaries(st.text(max_size=9).map("secret:{}".format), st.binary(max_size=3)), max_size=9))
def test_changes_add_up_and_survive_sealing(changes):
    state, expected = RUNNING, dict(RUNNING.records)
    for change in changes:
        state = CoordinatorState().restore(state.change(change).records)
        expected |= change
    assert dict(state.records) == expected


def test_activations_are_kept_in_hex():
    assert RUNNING.change({"activations:bookstore": b"1f"}).activations == {"bookstore": 31}


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"state": b"0"},
        {"state": b"1"},
        {"state": b"4"},
        {"state": b""},
        {"state": b"3"},
        {"state": b"2", "manifest": b""},
    ],
)
def test_records_of_no_known_state_are_refused(records):
    with pytest.raises(SealedStateError, match="of no known state"):
        NEW.restore(records)


def test_no_secret_is_shown():
    assert "key" not in repr(RUNNING)
    assert "root secret" not in repr(RUNNING)


def test_phases_have_marbleruns_numbers():
    assert [int(phase) for phase in Phase] == [0, 1, 2, 3]
