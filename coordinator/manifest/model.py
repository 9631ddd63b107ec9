"""A manifest: what a deployment consists of, as the data owner wrote it and as the coordinator enforces it.

A value and the questions that are asked of it. `coordinator.manifest.loading` makes it out of bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coordinator.manifest.config import ConfigSpec
from coordinator.manifest.infrastructures import InfrastructureSpec
from coordinator.manifest.marbles import MarbleSpec
from coordinator.manifest.packages import PackageSpec
from coordinator.manifest.recovery_keys import RecoveryKeySpec
from coordinator.manifest.secrets import SecretSpec
from coordinator.manifest.tls import TlsTagSpec
from coordinator.manifest.users import Action, RoleSpec, UserSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A valid manifest. `raw` is its identity; the rest is what it says.

    `warnings` are what is legal but unwise, and what a tolerant reader has overlooked.
    """

    raw: bytes = field(repr=False)
    packages: Mapping[str, PackageSpec]
    infrastructures: Mapping[str, InfrastructureSpec]
    marbles: Mapping[str, MarbleSpec]
    secrets: Mapping[str, SecretSpec]
    users: Mapping[str, UserSpec]
    roles: Mapping[str, RoleSpec]
    recovery_keys: Mapping[str, RecoveryKeySpec]
    tls: Mapping[str, TlsTagSpec]
    config: ConfigSpec
    warnings: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the raw bytes, lower-case hex."""
        return hashlib.sha256(self.raw).hexdigest()

    def user_of(self, certificate_der: bytes) -> UserSpec | None:
        """The user with exactly this certificate, or None."""
        return next((user for user in self.users.values() if user.certificate == certificate_der), None)

    def may(self, user: UserSpec, action: Action, resources: Iterable[str] = ()) -> bool:
        """Whether the user's roles together grant the action on all of the resources.

        Without resources: whether a role has the action at all. UPDATE_MANIFEST has no resources. A user of another
        manifest counts as the user of this one with the same name and certificate, and may do nothing if there is none.
        """
        known = self.users.get(user.name)
        if known is None or known.certificate != user.certificate:
            return False
        roles = [role for name in known.roles if action in (role := self.roles[name]).actions]
        return bool(roles) and all(any(role.grants(action, resource) for role in roles) for resource in resources)

    def users_with(self, action: Action) -> tuple[str, ...]:
        """Names of the users of whom a role has the action, sorted."""
        return tuple(sorted(name for name, user in self.users.items() if self.may(user, action)))

    @property
    def update_threshold(self) -> int:
        """How many users must acknowledge a full update, the one who submits it included."""
        return self.config.update_threshold or len(self.users_with(Action.UPDATE_MANIFEST))

    @property
    def recovery_threshold(self) -> int:
        """How many recovery secrets are enough; 0 if it takes all of them."""
        threshold = self.config.recovery_threshold
        return 0 if threshold == len(self.recovery_keys) else threshold
