"""The deployment in force: one state, and what follows from its records.

A request takes one `Deployment` and works with it to the end, so it never sees half of a change. Values only; keeping
the current one and sealing it is the business of `live`. Updates are in `updates`, uploads in `user_secrets`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from confidential_bookstore.errors import ManifestError, SealedStateError, StateError
from confidential_bookstore.secret import Secret
from coordinator.deployment import update_log
from coordinator.deployment.activation import ActivationRequest, check_request
from coordinator.deployment.generations import Generations
from coordinator.deployment.pending import PendingUpdate
from coordinator.deployment.records import manifest_records, packages_in_force, secret_records, secrets_of
from coordinator.deployment.state import (
    ACTIVATIONS,
    GENERATIONS,
    MANIFEST,
    MANIFEST_SIGNATURE,
    PENDING_UPDATE,
    PREVIOUS_ROOT_OF_SECRETS,
    ROOT_OF_SECRETS,
    UPDATE_LOG,
    CoordinatorState,
    Phase,
)
from coordinator.manifest import Manifest, PackageSpec, load_manifest
from coordinator.pki.authority import Authority
from coordinator.recovery.data_key import DataKey, new_data_key
from coordinator.secrets.lifecycle import SecretValues, first_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A state with its records read: the certificate authority, the manifest if there is one, and its secrets.

    Attributes:
        data_key: the key that the state is sealed with, and how it can be recovered.
        packages: those of the manifest, with the security versions that updates have raised.
        secrets: shared and uploaded ones.
    """

    state: CoordinatorState
    authority: Authority
    root_secret: Secret[bytes]
    data_key: DataKey
    manifest: Manifest | None = None
    packages: Mapping[str, PackageSpec] = field(default_factory=lambda: MappingProxyType({}))
    secrets: SecretValues = field(default_factory=SecretValues)
    generations: Generations = field(default_factory=Generations)

    @classmethod
    def begin(cls, authority: Authority, root_secret: Secret[bytes]) -> Deployment:
        """A new deployment, without a manifest."""
        state = CoordinatorState().begin(authority.to_records(), root_secret.reveal())
        return cls(state=state, authority=authority, root_secret=root_secret, data_key=_new_key())

    @classmethod
    def lock(cls, authority: Authority, root_secret: Secret[bytes]) -> Deployment:
        """What stands in while the sealed state cannot be unsealed: an authority that nobody knows yet."""
        state = CoordinatorState().lock(authority.to_records(), root_secret.reveal())
        return cls(state=state, authority=authority, root_secret=root_secret, data_key=_new_key())

    @classmethod
    def restore(cls, records: Mapping[str, bytes], data_key: DataKey, *, tolerant: bool = False) -> Deployment:
        """The deployment that was sealed as these records.

        Raises:
            SealedStateError: a record is missing or cannot be read.
        """
        state = CoordinatorState().restore(records)
        authority = Authority.from_records(records)
        deployment = cls(
            state=state, authority=authority, root_secret=_root_secret(records, authority), data_key=data_key
        )
        if state.phase is not Phase.ACCEPTING_MARBLES:
            return deployment
        try:
            manifest = load_manifest(records[MANIFEST], tolerant=tolerant)
        except ManifestError as error:
            raise SealedStateError("the sealed manifest is not accepted by this version", got=str(error)) from error
        return replace(
            deployment,
            manifest=manifest,
            packages=packages_in_force(manifest, state),
            secrets=secrets_of(manifest, state),
            generations=Generations.from_record(records.get(GENERATIONS)),
        )

    def accept_manifest(
        self, raw: bytes, now: dt.datetime, *, tolerant: bool = False
    ) -> tuple[Deployment, dict[str, bytes]]:
        """With a manifest, and the recovery secrets by key name, encrypted. Takes seconds if there are RSA keys.

        Raises:
            StateError: there is a manifest.
            ManifestError: it breaks a rule.
        """
        self.state.require(Phase.ACCEPTING_MANIFEST, Phase.RECOVERY)
        manifest = load_manifest(raw, tolerant=tolerant)
        values = first_values(manifest.secrets, self.authority, now)
        data_key, recovery_secrets = new_data_key(recovery_public_keys(manifest), manifest.recovery_threshold)
        records = {
            **manifest_records(manifest, manifest.packages),
            **secret_records(values),
            MANIFEST_SIGNATURE: self.authority.sign(raw),
            UPDATE_LOG: update_log.to_record([update_log.line(now, update_log.MANIFEST_SET)]),
        }
        accepted = replace(
            self,
            state=self.state.accept_manifest(records),
            data_key=data_key,
            manifest=manifest,
            packages=manifest.packages,
            secrets=values,
        )
        return accepted, recovery_secrets

    def count_activation(self, request: ActivationRequest) -> tuple[Deployment, None]:
        """With one more activation of the request's type.

        Raises:
            ActivationDenied: its limit was reached in the meantime, or the type is gone.
        """
        check_request(self.require_manifest(), request, self.state.activations)
        count = self.state.activations.get(request.marble_type, 0) + 1
        changes = {ACTIVATIONS + request.marble_type: f"{count:x}".encode()}
        return replace(self, state=self.state.change(changes)), None

    def require_manifest(self) -> Manifest:
        """The manifest in force.

        Raises:
            StateError: there is none.
        """
        if self.manifest is None:
            raise StateError("server is not in expected state")
        return self.manifest

    @property
    def manifest_signature(self) -> bytes:
        """ECDSA by the root key over the manifest; empty without one."""
        return self.state.records.get(MANIFEST_SIGNATURE, b"")

    @property
    def previous_root_secret(self) -> Secret[bytes]:
        """What unique secrets of the previous generation are derived from: the present one until a rotation."""
        previous = self.state.records.get(PREVIOUS_ROOT_OF_SECRETS)
        return Secret(previous) if previous else self.root_secret

    @property
    def pending(self) -> PendingUpdate | None:
        """The update that waits for acknowledgments."""
        record = self.state.records.get(PENDING_UPDATE)
        return PendingUpdate.from_record(record) if record else None

    @property
    def update_log(self) -> tuple[str, ...]:
        """JSON lines, oldest first."""
        return update_log.from_record(self.state.records.get(UPDATE_LOG, b""))

    def logged(self, *lines: str) -> dict[str, bytes]:
        """The record of the update log with further lines."""
        return {UPDATE_LOG: update_log.to_record([*self.update_log, *lines])}

    def generation_report(self, now: dt.datetime) -> dict[str, Any]:
        """What marbles are told about generations of certificates."""
        return self.generations.report(self.authority.marble_root, now)


def recovery_public_keys(manifest: Manifest) -> dict[str, Any]:
    """The RSA public keys of the manifest's recovery keys, by name."""
    return {name: key.public_key for name, key in manifest.recovery_keys.items()}


def _new_key() -> DataKey:
    data_key, _ = new_data_key({}, 0)
    return data_key


def _root_secret(records: Mapping[str, bytes], authority: Authority) -> Secret[bytes]:
    """States of MarbleRun before 1.6 have no root secret: there, the scalar of the root key is it."""
    secret = records.get(ROOT_OF_SECRETS)
    if secret is not None and not secret:
        raise SealedStateError("a record is empty in the state", got=ROOT_OF_SECRETS)
    if secret is not None:
        return Secret(secret)
    scalar = authority.root_key.private_numbers().private_value
    return Secret(scalar.to_bytes(authority.root_key.key_size // 8, "big"))
