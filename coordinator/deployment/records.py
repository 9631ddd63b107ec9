"""What of a manifest is sealed besides its bytes, under MarbleRun's store keys, and how it is read again.

The manifest's own bytes are what counts. Records of packages say which security versions are in force, since updates
raise them without a new manifest; records of users are written for whoever reads the state with MarbleRun's tools.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType

from confidential_bookstore.errors import SealedStateError
from coordinator.deployment.state import MANIFEST, PACKAGES, PREVIOUS_SECRETS, SECRETS, USERS, CoordinatorState
from coordinator.manifest import Manifest, PackageSpec
from coordinator.manifest.users import Action, UserSpec
from coordinator.secret_value import SecretValue
from coordinator.secrets.lifecycle import SecretValues

# What an update replaces as a whole.
MANIFEST_PREFIXES = (PACKAGES, USERS, SECRETS, PREVIOUS_SECRETS)


def manifest_records(manifest: Manifest, packages: Mapping[str, PackageSpec]) -> dict[str, bytes]:
    """The manifest's bytes, its packages as they are in force, its users."""
    return {
        MANIFEST: manifest.raw,
        **package_records(packages),
        **{USERS + name: _user_record(manifest, user) for name, user in manifest.users.items()},
    }


def package_records(packages: Mapping[str, PackageSpec]) -> dict[str, bytes]:
    """Packages with the manifest's field names."""
    return {PACKAGES + name: _package_record(package) for name, package in packages.items()}


def packages_in_force(manifest: Manifest, state: CoordinatorState) -> Mapping[str, PackageSpec]:
    """The manifest's packages with the security versions of their records.

    Raises:
        SealedStateError: a record cannot be read.
    """
    packages = dict(manifest.packages)
    for name, record in state.named(PACKAGES).items():
        try:
            version = json.loads(record)["SecurityVersion"]
            if name in packages and version is not None:
                packages[name] = packages[name].with_security_version(int(version))
        except (ValueError, KeyError, TypeError):
            raise SealedStateError("a stored package cannot be read", got=name) from None
    return MappingProxyType(packages)


def secret_records(values: SecretValues) -> dict[str, bytes]:
    """Present and previous values."""
    return {
        **{SECRETS + name: value.to_record() for name, value in values.present.items()},
        **{PREVIOUS_SECRETS + name: value.to_record() for name, value in values.previous.items()},
    }


def secrets_of(manifest: Manifest, state: CoordinatorState) -> SecretValues:
    """The values of secrets that the manifest still has and that are kept: shared and uploaded ones.

    Raises:
        SealedStateError: a record cannot be read.
    """

    def kept(prefix: str) -> dict[str, SecretValue]:
        return {
            name: SecretValue.from_record(record)
            for name, record in state.named(prefix).items()
            if name in manifest.secrets and not manifest.secrets[name].is_unique
        }

    return SecretValues(kept(SECRETS), kept(PREVIOUS_SECRETS))


def _package_record(package: PackageSpec) -> bytes:
    return json.dumps(
        {
            "Debug": package.debug,
            "UniqueID": package.unique_id,
            "SignerID": package.signer_id,
            "ProductID": package.product_id,
            "SecurityVersion": package.security_version,
            "AcceptedTCBStatuses": package.accepted_tcb_statuses,
            "AcceptedAdvisories": package.accepted_advisories,
        }
    ).encode()


def _user_record(manifest: Manifest, user: UserSpec) -> bytes:
    roles = [manifest.roles[name] for name in user.roles]
    permissions = {
        action.value: {
            "PermissionID": action.value,
            "ResourceID": {name: True for role in roles if action in role.actions for name in role.resource_names},
        }
        for action in Action
        if any(action in role.actions for role in roles)
    }
    certificate = base64.b64encode(user.certificate).decode()
    return json.dumps({"Name": user.name, "Certificate": certificate, "Permissions": permissions}).encode()
