from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import SealedStateError, StateError
from coordinator.deployment.state import CoordinatorState, Phase

NEW = CoordinatorState()
READY = NEW.begin({"privateKey:x": b"key"}, b"root secret")
RUNNING = READY.accept_manifest(b"{}", b"signature", {"shared": b"value"})

TRANSITIONS = {
    "begin": lambda state: state.begin({}, b""),
    "restore": lambda state: state.restore({"state": b"2"}),
    "accept_manifest": lambda state: state.accept_manifest(b"{}", b"", {}),
    "count_activation": lambda state: state.count_activation("bookstore"),
}
ALLOWED = {("begin", 0): 2, ("restore", 0): 2, ("accept_manifest", 2): 3, ("count_activation", 3): 3}


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("state", [NEW, READY, RUNNING], ids=lambda state: state.phase.name)
def test_what_is_not_allowed_is_refused(name, state):
    expected = ALLOWED.get((name, int(state.phase)))
    if expected is None:
        with pytest.raises(StateError, match=r"^server is not in expected state$"):
            TRANSITIONS[name](state)
    else:
        assert TRANSITIONS[name](state).phase == expected


def test_records_have_marbleruns_keys():
    assert dict(RUNNING.count_activation("bookstore").records) == {
        "state": b"3",
        "privateKey:x": b"key",
        "rootSecret": b"root secret",
        "manifest": b"{}",
        "manifestSignature": b"signature",
        "secret:shared": b"value",
        "activations:bookstore": b"1",
    }


def test_a_transition_leaves_the_old_state_alone():
    before = dict(RUNNING.records)
    RUNNING.count_activation("bookstore")
    assert dict(RUNNING.records) == before
    with pytest.raises(TypeError):
        RUNNING.records["state"] = b"0"


@given(st.lists(st.sampled_from(["bookstore", "bookbuyer", "a:b"]), max_size=40))
def test_activations_are_counted_by_type_and_survive_sealing(types):
    state = RUNNING
    for marble_type in types:
        state = CoordinatorState().restore(state.count_activation(marble_type).records)
    assert state.activations == {marble_type: types.count(marble_type) for marble_type in set(types)}


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
