"""The sections `Users` and `Roles`: who may do what to a running deployment.

A user is a client certificate, compared byte for byte: who issued it and when it ends does not matter.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from confidential_bookstore.errors import ManifestError
from coordinator.manifest.fields import Fields, Node, one_of
from coordinator.manifest.pem import certificate_der
from coordinator.manifest.secrets import SecretSpec


class Action(enum.Enum):
    """MarbleRun's names of what a role may do; the manifest may write them in any case."""

    UPDATE_SECURITY_VERSION = "UpdateSecurityVersion"
    READ_SECRET = "ReadSecret"  # noqa: S105
    WRITE_SECRET = "WriteSecret"  # noqa: S105
    UPDATE_MANIFEST = "UpdateManifest"


class ResourceType(enum.Enum):
    """What the resource names of a role are names of."""

    PACKAGES = "Packages"
    SECRETS = "Secrets"
    MANIFEST = "Manifest"  # of which there is one, so it has no name


ACTIONS: Mapping[ResourceType, frozenset[Action]] = {
    ResourceType.PACKAGES: frozenset({Action.UPDATE_SECURITY_VERSION}),
    ResourceType.SECRETS: frozenset({Action.READ_SECRET, Action.WRITE_SECRET}),
    ResourceType.MANIFEST: frozenset({Action.UPDATE_MANIFEST}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSpec:
    """Actions on resources of one type."""

    name: str
    resource_type: ResourceType
    resource_names: frozenset[str]
    actions: frozenset[Action]

    def grants(self, action: Action, resource: str) -> bool:
        """Whether the role has the action on this resource; the resource of UPDATE_MANIFEST is not looked at."""
        return action in self.actions and (action is Action.UPDATE_MANIFEST or resource in self.resource_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSpec:
    """One user: the certificate in DER, and the names of the user's roles."""

    name: str
    certificate: bytes = field(repr=False)
    roles: frozenset[str]


def read_role(name: str, node: Node, *, packages: Collection[str], secrets: Mapping[str, SecretSpec]) -> RoleSpec:
    """Read and check one entry of `Roles`.

    Raises:
        ManifestError: a field is malformed, or names what does not exist or cannot be done.
    """
    fields = node.fields(("ResourceType", "ResourceNames", "Actions"))
    resource_type = _read_resource_type(fields)
    role = RoleSpec(
        name=name,
        resource_type=resource_type,
        resource_names=frozenset(fields.texts("ResourceNames")),
        actions=frozenset(_read_action(item, resource_type) for item in fields.items("Actions")),
    )
    if resource_type is ResourceType.MANIFEST:
        if role.resource_names:
            raise fields.found["ResourceNames"].error("there is only one manifest", expected="no names")
        return role
    resources: Collection[str] = packages if resource_type is ResourceType.PACKAGES else secrets
    for item in fields.items("ResourceNames"):
        resource = item.text()
        if resource not in resources:
            raise item.error(
                f"no such entry in {resource_type.value}", got=ascii(resource[:80]), expected=one_of(resources)
            )
        if resource_type is ResourceType.SECRETS:
            _check_secret(item, role, secrets[resource])
    return role


def read_user(name: str, node: Node, *, roles: Collection[str]) -> UserSpec:
    """Read and check one entry of `Users`.

    Raises:
        ManifestError: there is no certificate, it cannot be read, or a role does not exist.
    """
    fields = node.fields(("Certificate", "Roles"))
    certificate = fields.get("Certificate")
    if certificate is None or certificate.is_empty():
        raise node.error("user without certificate", hint="a user is known by a client certificate in PEM")
    for item in fields.items("Roles"):
        if item.text() not in roles:
            raise item.error("unknown role", got=ascii(item.text()[:80]), expected=one_of(roles))
    return UserSpec(name=name, certificate=certificate_der(certificate), roles=frozenset(fields.texts("Roles")))


def check_certificates_differ(users: Mapping[str, UserSpec]) -> None:
    """Each certificate is one user.

    Raises:
        ManifestError: two users have the same.
    """
    owners: dict[bytes, str] = {}
    for user in users.values():
        other = owners.setdefault(user.certificate, user.name)
        if other != user.name:
            names = f"{other[:80]!a} and {user.name[:80]!a}"
            raise ManifestError("Users: two users have the same certificate", got=names)


def _read_resource_type(fields: Fields) -> ResourceType:
    text = fields.text("ResourceType")
    for kind in ResourceType:
        if kind.value == text:
            return kind
    raise (fields.get("ResourceType") or fields.node).error(
        "unknown resource type", got=ascii(text[:80]), expected=one_of(kind.value for kind in ResourceType)
    )


def _read_action(node: Node, resource_type: ResourceType) -> Action:
    text = node.text()
    for action in ACTIONS[resource_type]:
        if action.value.lower() == text.lower():
            return action
    raise node.error(
        f"no action on {resource_type.value}",
        got=ascii(text[:80]),
        expected=one_of(action.value for action in ACTIONS[resource_type]),
    )


def _check_secret(node: Node, role: RoleSpec, secret: SecretSpec) -> None:
    if Action.WRITE_SECRET in role.actions and not secret.user_defined:
        raise node.error("secret cannot be written", hint='only secrets with "UserDefined": true are uploaded')
    if Action.READ_SECRET in role.actions and secret.is_unique:
        raise node.error("secret cannot be read", hint="every marble has its own value; shared secrets can be read")
