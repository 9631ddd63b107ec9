"""The deployment in force: one state, and what follows from its records.

A request takes one `Deployment` and works with it to the end, so it never sees half of a change. Values only; keeping
the current one and sealing it is the business of `live`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from confidential_bookstore.errors import ManifestError, SealedStateError
from confidential_bookstore.secret import Secret
from coordinator.deployment.activation import ActivationRequest, check_request
from coordinator.deployment.state import MANIFEST, MANIFEST_SIGNATURE, ROOT_OF_SECRETS, SECRETS, CoordinatorState, Phase
from coordinator.manifest import Manifest, load_manifest
from coordinator.pki.authority import Authority
from coordinator.secrets.generation import generate_shared
from coordinator.secrets.value import SecretValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A state with its records read: the certificate authority, the manifest if there is one, and its secrets.

    Attributes:
        shared_secrets: those that are the same for all marbles, by name.
    """

    state: CoordinatorState
    authority: Authority
    root_secret: Secret[bytes]
    manifest: Manifest | None = None
    shared_secrets: Mapping[str, SecretValue] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @classmethod
    def begin(cls, authority: Authority, root_secret: Secret[bytes]) -> Deployment:
        """A new deployment, without a manifest."""
        state = CoordinatorState().begin(authority.to_records(), root_secret.reveal())
        return cls(state=state, authority=authority, root_secret=root_secret)

    @classmethod
    def restore(cls, records: Mapping[str, bytes]) -> Deployment:
        """The deployment that was sealed as these records.

        Raises:
            SealedStateError: a record is missing or cannot be read.
        """
        state = CoordinatorState().restore(records)
        if not (root_secret := records.get(ROOT_OF_SECRETS)):
            raise SealedStateError("a record is missing in the state", got="nothing", expected=ROOT_OF_SECRETS)
        deployment = cls(state=state, authority=Authority.from_records(records), root_secret=Secret(root_secret))
        if state.phase is not Phase.ACCEPTING_MARBLES:
            return deployment
        try:
            manifest = load_manifest(records[MANIFEST])
        except ManifestError as error:
            raise SealedStateError("the sealed manifest is not accepted by this version", got=str(error)) from error
        secrets = {
            key.removeprefix(SECRETS): SecretValue.from_record(record)
            for key, record in records.items()
            if key.startswith(SECRETS)
        }
        return replace(deployment, manifest=manifest, shared_secrets=MappingProxyType(secrets))

    def accept_manifest(self, raw: bytes, now: dt.datetime) -> Deployment:
        """With a manifest, which can be set once. Makes its shared secrets: takes seconds if there are RSA keys.

        Raises:
            StateError: there is a manifest.
            ManifestError: it breaks a rule.
        """
        self.state.require(Phase.ACCEPTING_MANIFEST)
        manifest = load_manifest(raw)
        secrets = generate_shared(manifest, self.authority, now)
        records = {name: value.to_record() for name, value in secrets.items()}
        state = self.state.accept_manifest(raw, self.authority.sign(raw), records)
        return replace(self, state=state, manifest=manifest, shared_secrets=MappingProxyType(secrets))

    def count_activation(self, manifest: Manifest, request: ActivationRequest) -> Deployment:
        """With one more activation of the request's type.

        Raises:
            ActivationDenied: its limit was reached in the meantime.
        """
        check_request(manifest, request, self.state.activations)
        return replace(self, state=self.state.count_activation(request.marble_type))

    @property
    def manifest_signature(self) -> bytes:
        """ECDSA by the root key over the manifest; empty without one."""
        return self.state.records.get(MANIFEST_SIGNATURE, b"")
