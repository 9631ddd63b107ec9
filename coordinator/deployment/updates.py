"""Changing what is in force: raised security versions, and whole new manifests that several users agree on.

    package update   names packages and higher security versions only; one user with a role for them is enough
    full update      a whole manifest; applied when enough users with the role for it have acknowledged the same bytes

Both make a new intermediate key and marble root, and with it a new generation of certificates (`generations`).
Functions of values: a deployment in, the changed one out. Making RSA keys takes seconds, so call from a thread.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from confidential_bookstore.errors import NotPermitted, NoUpdatePending, UpdateError
from confidential_bookstore.secret import Secret
from coordinator.deployment import update_log
from coordinator.deployment.deployment import Deployment, recovery_public_keys
from coordinator.deployment.generations import GRACE
from coordinator.deployment.pending import PendingUpdate
from coordinator.deployment.records import MANIFEST_PREFIXES, manifest_records, package_records, secret_records
from coordinator.deployment.state import (
    GENERATIONS,
    MANIFEST_SIGNATURE,
    PENDING_UPDATE,
    PREVIOUS_ROOT_OF_SECRETS,
    ROOT_OF_SECRETS,
    Phase,
)
from coordinator.manifest import Manifest, PackageSpec, load_manifest
from coordinator.manifest.dry_run import check_templates
from coordinator.manifest.package_update import check_package_update, read_package_update
from coordinator.manifest.users import Action, UserSpec
from coordinator.pki.building import RandomBytes
from coordinator.recovery.data_key import new_data_key
from coordinator.secrets.lifecycle import renewed_certificates, values_after_update

APPLIED = "All users have acknowledged the update manifest. Update successfully applied"
CANCELLED = "Update successfully cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOutcome:
    """What a user hears of a step.

    Attributes:
        message: in words.
        missing_acknowledgments: 0 if the update is in force now.
        missing_users: who could still give one; None if the update is in force.
        recovery_secrets: by key name, encrypted; empty unless they had to be made anew.
    """

    message: str
    missing_acknowledgments: int = 0
    missing_users: tuple[str, ...] | None = None
    recovery_secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def update(
    deployment: Deployment, raw: bytes, user: UserSpec, now: dt.datetime, *, tolerant: bool = False
) -> tuple[Deployment, UpdateOutcome]:
    """The first step of either kind, told apart by content.

    Args:
        deployment: in force.
        raw: the update, as it was uploaded.
        user: who uploads it.
        now: with a time zone.
        tolerant: unknown keys in a manifest are warnings.

    Raises:
        StateError: there is no manifest.
        UpdateError: another update is pending, or the packages cannot be updated like this.
        ManifestError: the new manifest breaks a rule.
        NotPermitted: the user has no role for it.
    """
    deployment.state.require(Phase.ACCEPTING_MARBLES)
    if deployment.pending is not None:
        raise UpdateError(
            "update already in progress. Acknowledge the update to apply it, or cancel it to start a new one"
        )
    versions = read_package_update(raw, tolerant=tolerant)
    if versions is not None:
        return _raise_versions(deployment, versions, user, now)
    return _propose(deployment, raw, user, now, tolerant=tolerant)


def acknowledge(
    deployment: Deployment, raw: bytes, user: UserSpec, now: dt.datetime, *, tolerant: bool = False
) -> tuple[Deployment, UpdateOutcome]:
    """One more user agrees, with the bytes of the pending manifest.

    Raises:
        NoUpdatePending: there is nothing to agree to.
        UpdateError: the bytes are others.
        NotPermitted: the user is not asked.
        ManifestError: the update cannot be applied after all; see `fail`.
    """
    pending = _require_pending(deployment)
    if user.name not in pending.users:
        raise NotPermitted(f"user {user.name} is not allowed to acknowledge manifest updates")
    if raw != pending.raw:
        raise UpdateError("provided manifest does not match the pending manifest")
    agreed = pending.acknowledged_by(user.name)
    entry = _entry(now, update_log.UPDATE_ACKNOWLEDGED, agreed, user)
    return _apply_or_wait(deployment, agreed, entry, now, tolerant=tolerant)


def cancel(deployment: Deployment, user: UserSpec, now: dt.datetime) -> tuple[Deployment, None]:
    """Without the pending update.

    Raises:
        NoUpdatePending: there is none.
        NotPermitted: the user has no role for it.
    """
    pending = _require_pending(deployment)
    if not deployment.require_manifest().may(user, Action.UPDATE_MANIFEST):
        raise NotPermitted(f"user {user.name} is not allowed to cancel manifest updates")
    fingerprint = hashlib.sha256(pending.raw).hexdigest()
    entry = update_log.line(now, update_log.UPDATE_CANCELLED, user=user.name, manifestFingerprint=fingerprint)
    return _without_pending(deployment, entry), None


def fail(deployment: Deployment, now: dt.datetime) -> tuple[Deployment, None]:
    """Without the pending update, because it turned out that it cannot be applied."""
    return _without_pending(deployment, update_log.line(now, update_log.UPDATE_FAILED)), None


def waiting_message(pending: PendingUpdate) -> str:
    """What a pending update waits for, in words."""
    missing = pending.missing_acknowledgments
    users = "1 user still needs" if missing == 1 else f"{missing} users still need"
    return f"{users} to acknowledge the update manifest."


def _raise_versions(
    deployment: Deployment, versions: Mapping[str, int], user: UserSpec, now: dt.datetime
) -> tuple[Deployment, UpdateOutcome]:
    manifest = deployment.require_manifest()
    check_package_update(versions, deployment.packages)
    if not manifest.may(user, Action.UPDATE_SECURITY_VERSION, versions):
        names = " ".join(sorted(versions))
        raise NotPermitted(f"user {user.name} is not allowed to update one or more packages of [{names}]")
    packages = MappingProxyType(
        {
            name: package.with_security_version(versions[name]) if name in versions else package
            for name, package in deployment.packages.items()
        }
    )
    entries = [
        update_log.line(now, update_log.SECURITY_VERSION, user=user.name, package=name, new_version=version)
        for name, version in sorted(versions.items())
    ]
    authority = deployment.authority.rotated(now)
    values = renewed_certificates(manifest.secrets, deployment.secrets, authority, now)
    revoked = revocations(manifest, deployment.packages, manifest, packages, now)
    generations = deployment.generations.superseded(deployment.authority.marble_root, revoked, now)
    changes = {
        **authority.to_records(),
        **package_records(packages),
        **secret_records(values),
        **deployment.logged(*entries),
        GENERATIONS: generations.to_record(),
    }
    changed = replace(
        deployment,
        state=deployment.state.change(changes),
        authority=authority,
        packages=packages,
        secrets=values,
        generations=generations,
    )
    return changed, UpdateOutcome(message="Update manifest set successfully")


def _propose(
    deployment: Deployment, raw: bytes, user: UserSpec, now: dt.datetime, *, tolerant: bool
) -> tuple[Deployment, UpdateOutcome]:
    current = deployment.require_manifest()
    if not current.may(user, Action.UPDATE_MANIFEST):
        raise NotPermitted(f"user {user.name} is not allowed to update the manifest")
    load_manifest(raw, tolerant=tolerant)
    users = dict.fromkeys(current.users_with(Action.UPDATE_MANIFEST), False)
    pending = PendingUpdate(raw=raw, users=users, needed=current.update_threshold).acknowledged_by(user.name)
    kind = update_log.UPDATE_WAITING if pending.missing_acknowledgments else update_log.UPDATE_UNOPPOSED
    return _apply_or_wait(deployment, pending, _entry(now, kind, pending, user), now, tolerant=tolerant)


def _apply_or_wait(
    deployment: Deployment, pending: PendingUpdate, entry: str, now: dt.datetime, *, tolerant: bool
) -> tuple[Deployment, UpdateOutcome]:
    missing = pending.missing_acknowledgments
    if not missing:
        return _apply(deployment, load_manifest(pending.raw, tolerant=tolerant), entry, now)
    changes = {PENDING_UPDATE: pending.to_record(), **deployment.logged(entry)}
    outcome = UpdateOutcome(
        message=waiting_message(pending),
        missing_acknowledgments=missing,
        missing_users=pending.missing_users,
    )
    return replace(deployment, state=deployment.state.change(changes)), outcome


def _apply(
    deployment: Deployment, manifest: Manifest, entry: str, now: dt.datetime, random: RandomBytes = os.urandom
) -> tuple[Deployment, UpdateOutcome]:
    """A whole manifest comes into force. Counts of activations and of marbles' counters stay."""
    current = deployment.require_manifest()
    rotate = manifest.config.rotate_root_secret
    authority = deployment.authority.rotated(now, random)
    values = values_after_update(
        current.secrets, deployment.secrets, manifest.secrets, authority, rotate=rotate, now=now, random=random
    )
    check_templates(manifest.marbles, manifest.secrets, values.present)
    root_secret = Secret(random(32)) if rotate else deployment.root_secret
    recovery_secrets: dict[str, bytes] = {}
    data_key = deployment.data_key
    if recovery_changes(current, manifest):
        data_key, recovery_secrets = new_data_key(recovery_public_keys(manifest), manifest.recovery_threshold, random)
    revoked = revocations(current, deployment.packages, manifest, manifest.packages, now)
    generations = deployment.generations.superseded(deployment.authority.marble_root, revoked, now)
    applied = update_log.line(now, update_log.UPDATE_APPLIED, manifestFingerprint=manifest.fingerprint)
    changes = {
        **authority.to_records(),
        **manifest_records(manifest, manifest.packages),
        **secret_records(values),
        **deployment.logged(entry, applied),
        **_root_secret_records(deployment, root_secret, rotate=rotate),
        MANIFEST_SIGNATURE: authority.sign(manifest.raw),
        GENERATIONS: generations.to_record(),
    }
    changed = replace(
        deployment,
        state=deployment.state.change(changes, without=(*MANIFEST_PREFIXES, PENDING_UPDATE)),
        authority=authority,
        root_secret=root_secret,
        data_key=data_key,
        manifest=manifest,
        packages=manifest.packages,
        secrets=values,
        generations=generations,
    )
    return changed, UpdateOutcome(message=APPLIED, recovery_secrets=recovery_secrets)


def revocations(
    old: Manifest,
    old_packages: Mapping[str, PackageSpec],
    new: Manifest,
    new_packages: Mapping[str, PackageSpec],
    now: dt.datetime,
) -> dict[str, dt.datetime]:
    """The marble types whose present certificates end early, and when.

    At once if the type is gone, after `GRACE` if it is held to other rules than before.
    """
    revoked: dict[str, dt.datetime] = {}
    for name, marble in old.marbles.items():
        successor = new.marbles.get(name)
        if successor is None:
            revoked[name] = now
        elif (
            replace(old_packages[marble.package], name="") != replace(new_packages[successor.package], name="")
            or old.infrastructures != new.infrastructures
        ):
            revoked[name] = now + GRACE
    return revoked


def recovery_changes(old: Manifest, new: Manifest) -> bool:
    """Whether the key of the sealed state has to be shared anew."""

    def shares(manifest: Manifest) -> object:
        keys = {name: key.public_key.public_numbers() for name, key in manifest.recovery_keys.items()}
        return keys, manifest.recovery_threshold

    return shares(old) != shares(new)


def _root_secret_records(deployment: Deployment, root_secret: Secret[bytes], *, rotate: bool) -> dict[str, bytes]:
    if not rotate:
        return {}
    return {
        ROOT_OF_SECRETS: root_secret.reveal(),
        PREVIOUS_ROOT_OF_SECRETS: deployment.root_secret.reveal(),
    }


def _entry(now: dt.datetime, update: str, pending: PendingUpdate, user: UserSpec) -> str:
    return update_log.line(
        now,
        update,
        user=user.name,
        missingAcknowledgments=pending.missing_acknowledgments,
        missingUsers=list(pending.missing_users),
        manifestFingerprint=hashlib.sha256(pending.raw).hexdigest(),
    )


def _require_pending(deployment: Deployment) -> PendingUpdate:
    pending = deployment.pending
    if pending is None:
        raise NoUpdatePending("no update in progress")
    return pending


def _without_pending(deployment: Deployment, entry: str) -> Deployment:
    state = deployment.state.change(deployment.logged(entry), without=(PENDING_UPDATE,))
    return replace(deployment, state=state)
