"""What a manifest may say but hardly means: warnings, each with a way out. Never an error, and never a value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coordinator.manifest.config import SealMode
from coordinator.manifest.fields import join_path
from coordinator.manifest.marbles import MarbleSpec
from coordinator.manifest.model import Manifest
from coordinator.manifest.packages import DEFAULT_TCB_STATUSES, PackageSpec
from coordinator.manifest.secrets import SecretSpec
from coordinator.manifest.users import Action, ResourceType, RoleSpec
from coordinator.pki.certificate_template import CertificateTemplate

_RESERVED_PREFIX = "MARBLE_PREDEFINED_"
_TTLS_CONFIG = "MARBLE_TTLS_CONFIG"
_NAMES_SECRET = re.compile(
    r"(?<![a-z])(password|passwd|passphrase|secret|token)s?(?![a-z])|(?<![a-z])key=", re.IGNORECASE
)
_DOUBTFUL_STATUSES = ("OutOfDate", "OutOfDateConfigurationNeeded", "Revoked")


@dataclass(frozen=True, slots=True)
class Finding:
    """One warning: where, what, and what to do about it."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def lint(manifest: Manifest) -> tuple[Finding, ...]:
    """All findings, section by section."""
    return tuple(
        chain(
            _packages(manifest),
            _infrastructures(manifest),
            _marbles(manifest),
            _secrets(manifest),
            _users_and_roles(manifest),
            _recovery_keys(manifest),
            _tls(manifest),
            _config(manifest),
        )
    )


def _packages(manifest: Manifest) -> Iterator[Finding]:
    used = {marble.package for marble in manifest.marbles.values()}
    updatable = bool(manifest.users_with(Action.UPDATE_MANIFEST))
    for name, package in manifest.packages.items():
        path = join_path("Packages", name)
        yield from _package(path, package)
        if package.unique_id and not updatable:
            yield Finding(
                path,
                "identified by its UniqueID, and no user may update the manifest: it can never be replaced",
                "give a user a role with UpdateManifest, or identify the package by its signer",
            )
        if name not in used:
            yield Finding(path, "no marble uses this package", "leave it out")


def _package(path: str, package: PackageSpec) -> Iterator[Finding]:
    if package.debug:
        yield Finding(
            path,
            "debug package: a quote of a debug enclave is never accepted",
            'build the enclave with "debug": false and leave Debug out',
        )
    if package.to_package().underspecified:
        yield Finding(
            path,
            "package does not identify any code, so its marbles cannot start",
            "give UniqueID, or SignerID, ProductID and SecurityVersion",
        )
    if not package.unique_id and not package.security_version:
        yield Finding(
            path,
            "SecurityVersion is 0 or missing: every version of the code is let in, the oldest too",
            "count SecurityVersion up from 1 with every fix",
        )
    if package.names_trust_domain and not package.rtmrs:
        yield Finding(
            path,
            "the UniqueID of a trust domain names its firmware, not the software that it starts",
            "give its RTMRs as well",
        )
    if doubtful := [status for status in package.accepted_tcb_statuses if status in _DOUBTFUL_STATUSES]:
        yield Finding(
            f"{path}.AcceptedTCBStatuses",
            f"accepts platforms whose known holes are not closed: {', '.join(dict.fromkeys(doubtful))}",
            "update the platforms instead",
        )
    if (
        "SWHardeningNeeded" in package.accepted_tcb_statuses
        and package.accepted_tcb_statuses != DEFAULT_TCB_STATUSES  # what nobody has thought about is no finding
        and not package.accepted_advisories
    ):
        yield Finding(
            f"{path}.AcceptedAdvisories",
            "empty: SWHardeningNeeded is accepted for every advisory, future ones too",
            "list the advisories that the code is hardened against",
        )


def _infrastructures(manifest: Manifest) -> Iterator[Finding]:
    for name, spec in manifest.infrastructures.items():
        if not spec.cpu_svn and not spec.root_ca and not spec.qe_svn and not spec.pce_svn:
            yield Finding(join_path("Infrastructures", name), "allows every platform", "give minimal versions")


def _marbles(manifest: Manifest) -> Iterator[Finding]:
    for name, marble in manifest.marbles.items():
        path = join_path("Marbles", name)
        yield from _parameters(f"{path}.Parameters", marble)
        yield from _missing(manifest, f"{path}.Parameters", marble)
        if marble.max_activations:
            yield Finding(
                f"{path}.MaxActivations",
                "counts starts, not instances: a marble that crashes and restarts uses it up",
                "leave it out, or count restarts in",
            )
        if marble.disable_secret_binding:
            yield Finding(
                f"{path}.DisableSecretBinding",
                "a marble of another such type that is started with the same UUID gets the same secrets",
                "leave it out, unless secrets of an old deployment must stay what they were",
            )


def _missing(manifest: Manifest, path: str, marble: MarbleSpec) -> Iterator[Finding]:
    """A function would refuse it, but printing it alone gives `<no value>`, as in Go."""
    for name in sorted(marble.references - manifest.secrets.keys()):
        yield Finding(path, f"a template names a secret that does not exist: {name[:80]!a}", "check its spelling")


def _parameters(path: str, marble: MarbleSpec) -> Iterator[Finding]:
    for variable in marble.parameters.env:
        if variable.startswith(_RESERVED_PREFIX) or variable == _TTLS_CONFIG:
            yield Finding(
                join_path(f"{path}.Env", variable), "reserved, the coordinator overwrites it", "choose another name"
            )
    for index, argument in enumerate(marble.parameters.argv):
        place = f"{path}.Argv[{index}]"
        if "{{" in argument:
            yield Finding(place, "looks like a template, but arguments are never expanded", "use Env or Files")
        if _NAMES_SECRET.search(argument):
            yield Finding(
                place,
                "looks like a secret: arguments are as public as the manifest, and visible on the machine",
                "use Env or Files with a template",
            )


def _secrets(manifest: Manifest) -> Iterator[Finding]:
    used = frozenset().union(*(marble.references for marble in manifest.marbles.values()))
    used |= {incoming.certificate for tag in manifest.tls.values() for incoming in tag.incoming}
    for role in manifest.roles.values():
        if role.resource_type is ResourceType.SECRETS and Action.READ_SECRET in role.actions:
            used |= role.resource_names
    for name, secret in manifest.secrets.items():
        path = join_path("Secrets", name)
        yield from _secret(path, secret)
        if name not in used:
            yield Finding(path, "no template, TLS tag or reader names this secret", "leave it out")


def _secret(path: str, secret: SecretSpec) -> Iterator[Finding]:
    if secret.user_defined:
        if secret.valid_for or secret.certificate != CertificateTemplate():
            yield Finding(path, "Cert and ValidFor have no effect on a certificate that is uploaded", "leave them out")
    elif secret.certificate.is_ca:
        yield Finding(
            path,
            "certificate is a CA below the marble root: its holder can issue certificates for any marble",
            "leave IsCA out, or issue the certificates outside and upload them",
        )


def _users_and_roles(manifest: Manifest) -> Iterator[Finding]:
    for name, user in manifest.users.items():
        if not user.roles:
            yield Finding(join_path("Users", name), "user without a role may do nothing", "add Roles")
    held = frozenset().union(*(user.roles for user in manifest.users.values()))
    for name, role in manifest.roles.items():
        path = join_path("Roles", name)
        if _is_idle(role):
            yield Finding(path, "role allows nothing", "add Actions and ResourceNames")
        if name not in held:
            yield Finding(path, "no user has this role", "give it to a user, or leave it out")


def _is_idle(role: RoleSpec) -> bool:
    return not role.actions or (role.resource_type is not ResourceType.MANIFEST and not role.resource_names)


def _recovery_keys(manifest: Manifest) -> Iterator[Finding]:
    keys = manifest.recovery_keys
    if not keys:
        yield Finding(
            "RecoveryKeys",
            "none: all secrets are lost when the machine that sealed the state is",
            "add RSA public keys, at least two, of different people",
        )
    if len(keys) == 1:
        yield Finding(
            "RecoveryKeys",
            "one key alone opens the whole state, and there is no other if it is lost",
            "add keys of other people, and set Config.RecoveryThreshold",
        )
    owners: dict[bytes, str] = {}
    for name, spec in keys.items():
        der = spec.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        other = owners.setdefault(der, name)
        if other != name:
            yield Finding(
                join_path("RecoveryKeys", name),
                f"the same key as {join_path('RecoveryKeys', other)}: one person has two parts",
                "give every person a key",
            )


def _tls(manifest: Manifest) -> Iterator[Finding]:
    used = frozenset(chain.from_iterable(marble.tls for marble in manifest.marbles.values()))
    for name, tag in manifest.tls.items():
        path = join_path("TLS", name)
        ports = [incoming.port for incoming in tag.incoming]
        if len(set(ports)) < len(ports):
            yield Finding(f"{path}.Incoming", "a port stands there twice, the last one counts", "leave one out")
        for index, incoming in enumerate(tag.incoming):
            if incoming.disable_client_auth:
                yield Finding(
                    f"{path}.Incoming[{index}].DisableClientAuth",
                    "anybody can connect: who calls is not known",
                    "leave it out, unless the callers are no marbles",
                )
        if name not in used:
            yield Finding(path, "no marble has this tag", "leave it out")


def _config(manifest: Manifest) -> Iterator[Finding]:
    users = len(manifest.users_with(Action.UPDATE_MANIFEST))
    if 2 * manifest.update_threshold <= users and users:
        yield Finding(
            "Config.UpdateThreshold",
            f"{manifest.update_threshold} of {users} users is no majority: two groups can update against each other",
            f"at least {users // 2 + 1}, or 0 for all",
        )
    if manifest.config.seal_mode is SealMode.DISABLED:
        yield Finding(
            "Config.SealMode",
            "Disabled: nothing is kept from here on, so every start is where the coordinator was before this manifest",
            "leave SealMode out, unless this is what you want",
        )
