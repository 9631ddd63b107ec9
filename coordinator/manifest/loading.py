"""Manifest bytes into a `Manifest`, whole or not at all.

What `load_manifest` returns has passed every rule, all templates included, so that what can be known to go wrong at an
activation goes wrong here, with the path of the offending place. The rules of one entry are in the module of its
section; those between sections are here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from coordinator.manifest.config import ConfigSpec, read_config
from coordinator.manifest.document import parse_document
from coordinator.manifest.dry_run import check_templates
from coordinator.manifest.fields import Fields, Node, Notes, one_of
from coordinator.manifest.infrastructures import read_infrastructure
from coordinator.manifest.lint import lint
from coordinator.manifest.marbles import read_marble
from coordinator.manifest.model import Manifest
from coordinator.manifest.packages import read_package
from coordinator.manifest.recovery_keys import MOST_RECOVERY_KEYS, read_recovery_key
from coordinator.manifest.secrets import SecretSpec, read_secret
from coordinator.manifest.tls import read_tls_tag
from coordinator.manifest.users import Action, check_certificates_differ, read_role, read_user
from coordinator.secret_value import SecretType

SECTIONS = (
    "Packages",
    "Infrastructures",
    "Marbles",
    "Secrets",
    "Users",
    "Roles",
    "RecoveryKeys",
    "TLS",
    "Config",
)
MOST_WARNINGS = 200  # they are logged
# Whoever comes first may set a manifest, and RSA keys take seconds each.
MOST_RSA_BITS = 16 * 4096

_Spec = TypeVar("_Spec")


def load_manifest(raw: bytes, *, tolerant: bool = False) -> Manifest:
    """Read and check a manifest.

    Args:
        raw: JSON, at most 1 MiB.
        tolerant: a key that is unknown or stands twice is a warning instead of an error. The last value counts.

    Raises:
        ManifestError: a rule does not hold; the message names the path. TemplateError if it is a template.
    """
    notes = Notes() if tolerant else None
    root = Node(parse_document(raw), "", notes)
    fields = root.fields(SECTIONS)
    packages = _read_section(fields, "Packages", read_package)
    secrets = _read_section(fields, "Secrets", read_secret)
    roles = _read_section(fields, "Roles", lambda name, node: read_role(name, node, packages=packages, secrets=secrets))
    config = fields.get("Config")
    manifest = Manifest(
        raw=raw,
        packages=packages,
        infrastructures=_read_section(fields, "Infrastructures", read_infrastructure),
        marbles=_read_section(fields, "Marbles", read_marble),
        secrets=secrets,
        users=_read_section(fields, "Users", lambda name, node: read_user(name, node, roles=roles)),
        roles=roles,
        recovery_keys=_read_section(fields, "RecoveryKeys", read_recovery_key),
        tls=_read_section(fields, "TLS", lambda name, node: read_tls_tag(name, node, secrets=secrets)),
        config=read_config(config) if config else ConfigSpec(),
    )
    for section, entries in (("Packages", packages), ("Marbles", manifest.marbles)):
        if not entries:
            raise root.error(f"manifest has no {section}", hint="every manifest needs a package and a marble")
    _check_marbles(fields, manifest)
    _check_rsa(secrets)
    check_certificates_differ(manifest.users)
    _check_thresholds(manifest)
    check_templates(manifest.marbles, secrets)
    return replace(manifest, warnings=_warnings(notes, manifest))


def _warnings(notes: Notes | None, manifest: Manifest) -> tuple[str, ...]:
    found = dict.fromkeys([*(notes.found if notes else ()), *(str(finding) for finding in lint(manifest))])
    warnings = tuple(found)[:MOST_WARNINGS]
    more = len(found) - len(warnings)
    return (*warnings, f"{more} more warnings") if more else warnings


def _read_section(fields: Fields, section: str, read: Callable[[str, Node], _Spec]) -> Mapping[str, _Spec]:
    return MappingProxyType({name: read(name, node) for name, node in fields.entries(section).items()})


def _check_marbles(fields: Fields, manifest: Manifest) -> None:
    """Every package and tag that a marble names is there."""
    for name, node in fields.entries("Marbles").items():
        marble = manifest.marbles[name]
        _check_known(Node(None, f"{node.path}.Package"), "package", marble.package, manifest.packages)
        for index, tag in enumerate(marble.tls):
            _check_known(Node(None, f"{node.path}.TLS[{index}]"), "TLS tag", tag, manifest.tls)


def _check_known(node: Node, what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise node.error(f"unknown {what}", got=ascii(name[:80]), expected=one_of(known))


def _check_rsa(secrets: Mapping[str, SecretSpec]) -> None:
    bits = sum(secret.size for secret in secrets.values() if secret.type is SecretType.CERT_RSA)
    if bits > MOST_RSA_BITS:
        raise Node(None, "Secrets").error(
            "too much RSA to generate", got=f"{bits} bits in all", expected=f"at most {MOST_RSA_BITS}"
        )


def _check_thresholds(manifest: Manifest) -> None:
    users, keys = len(manifest.users_with(Action.UPDATE_MANIFEST)), len(manifest.recovery_keys)
    config = manifest.config
    if config.update_threshold > users:
        raise Node(None, "Config.UpdateThreshold").error(
            "more than there are users who may update the manifest",
            got=config.update_threshold,
            expected=f"0 to {users}",
        )
    if keys > MOST_RECOVERY_KEYS:
        raise Node(None, "RecoveryKeys").error("too many keys", got=keys, expected=f"at most {MOST_RECOVERY_KEYS}")
    if config.recovery_threshold > keys:
        raise Node(None, "Config.RecoveryThreshold").error(
            "more than there are recovery keys", got=config.recovery_threshold, expected=f"0 to {keys}"
        )
    if config.recovery_threshold == 1:
        raise Node(None, "Config.RecoveryThreshold").error(
            "one recovery key alone would be enough", got=1, expected="0 (all keys), or at least 2"
        )
