"""Uploading and reading secrets, and the counters of marbles."""

from __future__ import annotations

from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from deployment_material import LATER, deployed, empty, log_of, raw, user, user_certificate
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import FeatureDisabled, InvalidRequest, ManifestError, NotPermitted, StateError
from confidential_bookstore.secret import Secret
from coordinator.deployment import updates
from coordinator.deployment.counters import counter_id, raise_counter
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.user_secrets import UserSecret, read_secrets, set_secrets

CERTIFICATE = user_certificate("uploaded").public_bytes(Encoding.DER)


def key(value: bytes) -> UserSecret:
    return UserSecret(key=Secret(value))


def test_what_is_uploaded_is_read_and_logged():
    deployment = deployed()
    after, _ = set_secrets(deployment, user(deployment, "erin"), {"token": key(b"abc")}, LATER)
    kept = Deployment.restore(after.state.records, after.data_key)
    assert read_secrets(kept, user(kept, "erin"), ["token"])["token"].private.reveal() == b"abc"
    assert log_of(after)[-1] == {
        "time": "2026-03-01T13:00:00.000Z",
        "update": "Secret set",
        "user": "erin",
        "secret": "token",
        "type": "plain",
    }
    assert "abc" not in repr(after)


def test_a_certificate_comes_with_or_without_its_key():
    deployment = deployed()
    upload = {"uploaded": UserSecret(certificate=CERTIFICATE)}
    after, _ = set_secrets(deployment, user(deployment, "erin"), upload, LATER)
    assert after.secrets.present["uploaded"].certificate == CERTIFICATE
    assert after.secrets.present["uploaded"].private.reveal() == b""


@pytest.mark.parametrize(
    ("uploads", "message"),
    [
        ({}, "no new secrets defined"),
        ({"nope": key(b"x")}, "secret manifest specifies a secret which the original manifest does not contain"),
        ({"shared": key(b"x" * 16)}, "secret shared is not writeable"),
        ({"key": key(b"x" * 7)}, "declared size and actual size don't match: key"),
        ({"token": UserSecret(certificate=CERTIFICATE)}, "has a certificate or private key"),
        ({"uploaded": key(b"x")}, "has a key"),
        ({"uploaded": UserSecret(certificate=b"junk")}, "cannot be read"),
        ({"uploaded": UserSecret(private=Secret(b"x"))}, "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(uploads, message):
    deployment = deployed()
    with pytest.raises(InvalidRequest, match=message):
        set_secrets(deployment, user(deployment, "erin"), uploads, LATER)


def test_one_bad_value_takes_all_with_it():
    deployment = deployed()
    uploads = {"token": key(b"good"), "key": key(b"bad")}
    with pytest.raises(InvalidRequest):
        set_secrets(deployment, user(deployment, "erin"), uploads, LATER)
    assert "token" not in deployment.secrets.present


def test_uploading_needs_a_role_for_every_secret():
    deployment = deployed()
    with pytest.raises(NotPermitted, match="user alice is not allowed to update secret: token"):
        set_secrets(deployment, user(deployment, "alice"), {"token": key(b"abc")}, LATER)


def test_a_value_that_a_template_cannot_take_is_refused():
    marbles = {"frontend": {"Package": "shop", "Parameters": {"Env": {"TOKEN": "{{ string .Secrets.token }}"}}}}
    deployment = deployed(Marbles=marbles)
    with pytest.raises(ManifestError):
        set_secrets(deployment, user(deployment, "erin"), {"token": key(b"a\0b")}, LATER)


def test_reading_needs_a_role_for_every_secret():
    deployment = deployed()
    assert read_secrets(deployment, user(deployment, "erin"), ["shared", "token"])["token"].private.reveal() == b""
    message = r"user erin is not allowed to read one or more secrets of: \[shared key\]"
    with pytest.raises(NotPermitted, match=message):
        read_secrets(deployment, user(deployment, "erin"), ["shared", "key"])
    with pytest.raises(NotPermitted, match="nope"):
        read_secrets(deployment, user(deployment, "erin"), ["nope"])


def test_nothing_is_uploaded_or_read_without_a_manifest():
    erin = user(deployed(), "erin")
    with pytest.raises(StateError):
        set_secrets(empty(), erin, {"token": key(b"abc")}, LATER)
    with pytest.raises(StateError):
        read_secrets(empty(), erin, ["token"])


class TestCounters:
    def test_only_grow_and_give_what_was_before(self):
        deployment, uuid = deployed(), uuid4()
        seen = []
        for value in (5, 3, 7, 7):
            deployment, previous = raise_counter(deployment, "frontend", uuid, "sales", value)
            seen.append(previous)
        assert seen == [0, 5, 5, 7]
        kept = Deployment.restore(deployment.state.records, deployment.data_key)
        assert raise_counter(kept, "frontend", uuid, "sales", 0)[1] == 7

    def test_belong_to_one_marble_and_one_name(self):
        deployment, uuid = deployed(), uuid4()
        deployment, _ = raise_counter(deployment, "frontend", uuid, "sales", 5)
        assert raise_counter(deployment, "backend", uuid, "sales", 1)[1] == 0
        assert raise_counter(deployment, "frontend", uuid4(), "sales", 1)[1] == 0
        assert raise_counter(deployment, "frontend", uuid, "other", 1)[1] == 0

    def test_survive_updates(self):
        deployment, uuid = deployed(Config={"UpdateThreshold": 1, "FeatureGates": ["MonotonicCounter"]}), uuid4()
        deployment, _ = raise_counter(deployment, "frontend", uuid, "sales", 5)
        deployment, _ = updates.update(deployment, raw(), user(deployment, "alice"), LATER)
        assert raise_counter(deployment, "frontend", uuid, "sales", 1)[1] == 5

    def test_that_do_not_change_are_not_sealed(self):
        deployment, uuid = deployed(), uuid4()
        once, _ = raise_counter(deployment, "frontend", uuid, "sales", 5)
        assert raise_counter(once, "frontend", uuid, "sales", 5)[0] is once

    def test_need_the_feature_gate(self):
        with pytest.raises(FeatureDisabled, match="MonotonicCounter feature is not enabled in the manifest"):
            raise_counter(deployed(Config=None), "frontend", uuid4(), "sales", 1)

    @pytest.mark.parametrize(("name", "value"), [("x" * 257, 1), ("x", 1 << 64), ("x", -1)])
    def test_are_bounded(self, name, value):
        with pytest.raises(InvalidRequest):
            raise_counter(deployed(), "frontend", uuid4(), name, value)

    @given(st.lists(st.integers(0, 2**64 - 1), max_size=8))
    def test_are_the_maximum_of_what_they_were_given(self, values):
        deployment, uuid = deployed(), uuid4()
        for index, value in enumerate(values):
            deployment, previous = raise_counter(deployment, "frontend", uuid, "n", value)
            assert previous == max([0, *values[:index]])

    def test_have_no_two_names_for_one(self):
        uuid = uuid4()
        assert counter_id("a:b", uuid, "c") != counter_id("a", uuid, "b:c")
