"""Updates of the manifest: who may, who has to agree, what changes, and who is revoked."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from deployment_material import (
    LATER,
    NOW,
    deployed,
    document,
    empty,
    log_of,
    package,
    raw,
    recovery_key,
    recovery_pem,
    user,
)

from confidential_bookstore.errors import ManifestError, NotPermitted, NoUpdatePending, StateError, UpdateError
from coordinator.deployment import updates
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.generations import GRACE
from coordinator.manifest.users import Action


def raise_shop(version: object = 2) -> bytes:
    return json.dumps({"Packages": {"shop": {"SecurityVersion": version}}}).encode()


def restored(deployment: Deployment) -> Deployment:
    return Deployment.restore(deployment.state.records, deployment.data_key)


class TestPackageUpdate:
    def test_raises_the_version_in_force_and_leaves_the_manifest(self):
        before = deployed()
        after, outcome = updates.update(before, raise_shop(), user(before, "dave"), LATER)
        assert after.packages["shop"].security_version == 2
        assert after.packages["bank"].security_version == 5
        assert after.manifest == before.manifest
        assert (outcome.missing_acknowledgments, outcome.missing_users) == (0, None)
        assert before.packages["shop"].security_version == 1

    def test_survives_sealing(self):
        before = deployed()
        after, _ = updates.update(before, raise_shop(), user(before, "dave"), LATER)
        assert restored(after).packages["shop"].security_version == 2
        assert restored(after).generations == after.generations

    def test_makes_a_new_intermediate_below_the_same_root(self):
        before = deployed()
        after, _ = updates.update(before, raise_shop(), user(before, "dave"), LATER)
        assert after.authority.root == before.authority.root
        assert after.authority.marble_root.public_key() != before.authority.marble_root.public_key()
        after.authority.intermediate.verify_directly_issued_by(after.authority.root)

    def test_makes_shared_certificates_again_and_keeps_keys(self):
        before = deployed()
        after, _ = updates.update(before, raise_shop(), user(before, "dave"), LATER)
        assert after.secrets.present["tls"].certificate != before.secrets.present["tls"].certificate
        assert after.secrets.present["shared"] == before.secrets.present["shared"]
        assert after.root_secret.reveal() == before.root_secret.reveal()

    def test_is_logged(self):
        before = deployed()
        after, _ = updates.update(before, raise_shop(), user(before, "dave"), LATER)
        assert after.update_log[-1] == (
            '{"time":"2026-03-01T13:00:00.000Z","update":"SecurityVersion increased","user":"dave",'
            '"package":"shop","new version":2}'
        )

    def test_revokes_the_marbles_of_the_package_after_the_grace(self):
        before = deployed()
        after, _ = updates.update(before, raise_shop(), user(before, "dave"), LATER)
        (previous,) = after.generations.previous
        assert after.generations.present == 1
        assert previous.marble_root == before.authority.marble_root
        assert previous.revoked == {"frontend": LATER + GRACE, "backend": LATER + GRACE}

    def test_of_the_same_version_revokes_nobody(self):
        before = deployed()
        after, _ = updates.update(before, raise_shop(1), user(before, "dave"), LATER)
        assert after.generations.previous[0].revoked == {}

    @pytest.mark.parametrize(
        ("update", "message"),
        [
            (raise_shop(0), "update manifest tries to downgrade SecurityVersion of the original manifest"),
            (
                json.dumps({"Packages": {"shop": {"SecurityVersion": 2, "Debug": True}}}).encode(),
                "update manifest contains unupdatable values",
            ),
            (
                json.dumps({"Packages": {"shop": {}}}).encode(),
                "update manifest does not specify a SecurityVersion to update",
            ),
        ],
    )
    def test_that_does_not_fit_is_refused(self, update, message):
        before = deployed()
        with pytest.raises(UpdateError, match=message):
            updates.update(before, update, user(before, "dave"), LATER)

    @pytest.mark.parametrize("name", ["alice", "erin"])
    def test_needs_a_role_for_every_package(self, name):
        before = deployed()
        with pytest.raises(
            NotPermitted, match=rf"user {name} is not allowed to update one or more packages of \[shop\]"
        ):
            updates.update(before, raise_shop(), user(before, name), LATER)
        both = json.dumps({"Packages": {"shop": {"SecurityVersion": 2}, "bank": {"SecurityVersion": 6}}}).encode()
        with pytest.raises(NotPermitted, match=r"\[bank shop\]"):
            updates.update(before, both, user(before, "dave"), LATER)

    def test_needs_a_manifest(self):
        with pytest.raises(StateError):
            updates.update(empty(), raise_shop(), user(deployed(), "dave"), LATER)


class TestFullUpdate:
    def test_waits_for_everybody_by_default(self):
        before, new = deployed(), raw(Marbles={"frontend": {"Package": "shop"}})
        one, outcome = updates.update(before, new, user(before, "alice"), LATER)
        assert (outcome.missing_acknowledgments, outcome.missing_users) == (2, ("bob", "carol"))
        assert one.manifest == before.manifest
        two, outcome = updates.acknowledge(restored(one), new, user(before, "bob"), LATER)
        assert (outcome.missing_acknowledgments, outcome.missing_users) == (1, ("carol",))
        three, outcome = updates.acknowledge(restored(two), new, user(before, "carol"), LATER)
        assert (outcome.missing_acknowledgments, outcome.missing_users) == (0, None)
        assert outcome.message == updates.APPLIED
        assert three.pending is None
        assert restored(three).require_manifest().raw == new
        assert [entry["update"] for entry in log_of(three)] == [
            "Initial manifest set",
            "Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update",
            "Complete Manifest update acknowledged by user",
            "Complete Manifest update acknowledged by user",
            "Complete Manifest updated",
        ]

    def test_counts_from_the_threshold_of_the_current_manifest(self):
        before = deployed(Config={"UpdateThreshold": 2})
        new = raw(Config={"UpdateThreshold": 3})
        one, outcome = updates.update(before, new, user(before, "bob"), LATER)
        assert (outcome.missing_acknowledgments, outcome.missing_users) == (1, ("alice", "carol"))
        two, _ = updates.acknowledge(one, new, user(before, "alice"), LATER)
        assert two.require_manifest().config.update_threshold == 3

    def test_of_a_threshold_of_one_is_applied_at_once(self):
        before = deployed(Config={"UpdateThreshold": 1})
        after, outcome = updates.update(before, raw(), user(before, "bob"), LATER)
        assert outcome.missing_acknowledgments == 0
        assert [entry["update"] for entry in log_of(after)][1:] == [
            "Complete Manifest update initiated by user. No further acknowledgements required",
            "Complete Manifest updated",
        ]
        assert list(log_of(after)[1]) == [
            "time",
            "update",
            "user",
            "missingAcknowledgments",
            "missingUsers",
            "manifestFingerprint",
        ]

    def test_acknowledged_twice_by_one_user_counts_once(self):
        before, new = deployed(), raw(Marbles={"frontend": {"Package": "shop"}})
        one, _ = updates.update(before, new, user(before, "alice"), LATER)
        again, outcome = updates.acknowledge(one, new, user(before, "alice"), LATER)
        assert outcome.missing_acknowledgments == 2
        assert again.manifest == before.manifest

    def test_is_acknowledged_by_its_very_bytes(self):
        before = deployed()
        one, _ = updates.update(before, raw(), user(before, "alice"), LATER)
        with pytest.raises(UpdateError, match="provided manifest does not match the pending manifest"):
            updates.acknowledge(one, raw() + b" ", user(before, "bob"), LATER)

    def test_is_not_acknowledged_by_others(self):
        before = deployed()
        one, _ = updates.update(before, raw(), user(before, "alice"), LATER)
        with pytest.raises(NotPermitted, match="user erin is not allowed to acknowledge manifest updates"):
            updates.acknowledge(one, raw(), user(before, "erin"), LATER)

    def test_blocks_other_updates_until_it_is_cancelled(self):
        before = deployed()
        one, _ = updates.update(before, raw(), user(before, "alice"), LATER)
        for update in (raw(), raise_shop()):
            with pytest.raises(UpdateError, match="update already in progress"):
                updates.update(one, update, user(before, "dave"), LATER)
        with pytest.raises(NotPermitted):
            updates.cancel(one, user(before, "dave"), LATER)
        cancelled, _ = updates.cancel(one, user(before, "bob"), LATER)
        assert log_of(cancelled)[-1]["update"] == "Complete Manifest update cancelled by user"
        updates.update(cancelled, raise_shop(), user(before, "dave"), LATER)

    def test_needs_something_pending(self):
        before = deployed()
        with pytest.raises(NoUpdatePending, match="no update in progress"):
            updates.acknowledge(before, raw(), user(before, "alice"), LATER)
        with pytest.raises(NoUpdatePending, match="no update in progress"):
            updates.cancel(before, user(before, "alice"), LATER)

    def test_needs_the_role_and_a_valid_manifest(self):
        before = deployed()
        with pytest.raises(NotPermitted):
            updates.update(before, raw(), user(before, "dave"), LATER)
        with pytest.raises(ManifestError):
            updates.update(before, raw(Marbles={"x": {"Package": "nowhere"}}), user(before, "alice"), LATER)

    def test_keeps_counts_of_activations(self):
        before = deployed(Config={"UpdateThreshold": 1}, Marbles={"frontend": {"Package": "shop", "MaxActivations": 3}})
        state = before.state.change({"activations:frontend": b"2"})
        after, _ = updates.update(
            Deployment.restore(state.records, before.data_key), raw(), user(before, "alice"), LATER
        )
        assert after.state.activations == {"frontend": 2}

    def test_takes_the_security_versions_of_the_new_manifest(self):
        before = deployed(Config={"UpdateThreshold": 1})
        raised, _ = updates.update(before, raise_shop(9), user(before, "dave"), LATER)
        after, _ = updates.update(raised, raw(), user(before, "alice"), LATER)
        assert restored(after).packages["shop"].security_version == 1

    def test_revokes_what_it_takes_away_at_once_and_what_it_changes_after_the_grace(self):
        before = deployed(Config={"UpdateThreshold": 1})
        marbles = {name: spec for name, spec in document()["Marbles"].items() if name != "teller"}
        new = raw(Packages={"shop": package(), "new": package(2)}, Marbles=marbles | {"backend": {"Package": "new"}})
        after, _ = updates.update(before, new, user(before, "alice"), LATER)
        assert after.generations.previous[0].revoked == {"teller": LATER, "backend": LATER + GRACE}

    def test_of_the_infrastructures_concerns_everybody(self):
        before = deployed(Config={"UpdateThreshold": 1})
        after, _ = updates.update(before, raw(Infrastructures={"here": {"PCESVN": 13}}), user(before, "alice"), LATER)
        assert set(after.generations.previous[0].revoked) == {"frontend", "backend", "teller"}

    def test_that_fails_to_apply_can_be_given_up(self):
        before = deployed()
        one, _ = updates.update(before, raw(), user(before, "alice"), LATER)
        over, _ = updates.fail(one, LATER)
        assert over.pending is None
        assert log_of(over)[-1]["update"].endswith("cancelled due to error during apply")


class TestRecoverySecrets:
    def test_come_with_the_manifest(self):
        _, secrets = empty().accept_manifest(raw(RecoveryKeys={"one": recovery_pem("one")}), NOW)
        assert list(secrets) == ["one"]

    def test_are_made_again_only_when_keys_or_threshold_change(self):
        keys = {name: recovery_pem(name) for name in ("one", "two", "three")}
        before = deployed(RecoveryKeys=keys, Config={"UpdateThreshold": 1})
        same, outcome = updates.update(
            before, raw(RecoveryKeys=keys, Config={"UpdateThreshold": 1}), user(before, "alice"), LATER
        )
        assert outcome.recovery_secrets == {}
        assert same.data_key == before.data_key
        new = raw(RecoveryKeys=keys, Config={"UpdateThreshold": 1, "RecoveryThreshold": 2})
        changed, outcome = updates.update(same, new, user(before, "alice"), LATER)
        assert sorted(outcome.recovery_secrets) == ["one", "three", "two"]
        assert changed.data_key.key.reveal() != before.data_key.key.reveal()
        oaep = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
        assert len(recovery_key("one").decrypt(outcome.recovery_secrets["one"], oaep)) == 33

    def test_a_threshold_that_says_the_same_changes_nothing(self):
        keys = {name: recovery_pem(name) for name in ("one", "two")}
        before = deployed(RecoveryKeys=keys, Config={"UpdateThreshold": 1})
        new = raw(RecoveryKeys=keys, Config={"UpdateThreshold": 1, "RecoveryThreshold": 2})
        _, outcome = updates.update(before, new, user(before, "alice"), LATER)
        assert outcome.recovery_secrets == {}


def test_generations_stay_revoked_and_bounded():
    deployment = deployed()
    dave = user(deployment, "dave")
    for version in range(2, 30):
        deployment, _ = updates.update(deployment, raise_shop(version), dave, LATER + dt.timedelta(minutes=version))
    previous = deployment.generations.previous
    assert deployment.generations.present == 28
    assert len(previous) == 16
    assert [each.number for each in previous] == list(range(27, 11, -1))
    # An older generation ended with the update that came right after it, not with the last one.
    assert previous[-1].revoked["frontend"] == LATER + dt.timedelta(minutes=14) + GRACE
    report = deployment.generation_report(LATER)
    assert (report["generation"], len(report["previous"])) == (28, 16)
    assert deployment.generation_report(LATER + dt.timedelta(days=40))["previous"] == []


def test_users_with_the_role_are_those_who_are_asked():
    assert deployed().require_manifest().users_with(Action.UPDATE_MANIFEST) == ("alice", "bob", "carol")
