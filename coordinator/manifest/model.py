"""A manifest: what a deployment consists of, as the data owner wrote it and as the coordinator enforces it.

`load_manifest` accepts a manifest whole or not at all. What it returns has passed every rule, all templates included,
so that what can be known to go wrong at an activation goes wrong here, with the path of the offending place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

from coordinator.manifest.document import parse_document
from coordinator.manifest.dry_run import check_templates
from coordinator.manifest.fields import Fields, Node
from coordinator.manifest.marbles import MarbleSpec, read_marble
from coordinator.manifest.packages import PackageSpec, package_warnings, read_package
from coordinator.manifest.secrets import SecretSpec, read_secret, secret_warnings
from coordinator.secrets.value import SecretType

RESERVED_VARIABLES = "MARBLE_PREDEFINED_"

_SECTIONS = ("Packages", "Marbles", "Secrets")
_NOT_YET = ("Infrastructures", "Users", "Roles", "RecoveryKeys", "TLS", "Config")

_Spec = TypeVar("_Spec")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A valid manifest. `raw` is its identity; the rest is what it says."""

    raw: bytes = field(repr=False)
    packages: Mapping[str, PackageSpec]
    marbles: Mapping[str, MarbleSpec]
    secrets: Mapping[str, SecretSpec]
    warnings: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the raw bytes, lower-case hex."""
        return hashlib.sha256(self.raw).hexdigest()


# Whoever comes first may set a manifest, and RSA keys take seconds each.
MOST_RSA_BITS = 16 * 4096


def load_manifest(raw: bytes) -> Manifest:
    """Read and check a manifest.

    Args:
        raw: JSON, at most 1 MiB.

    Raises:
        ManifestError: a rule does not hold; the message names the path. TemplateError if it is a template.
    """
    root = Node(parse_document(raw), "")
    fields = root.fields(_SECTIONS, not_yet=_NOT_YET)
    packages = _read_section(fields, "Packages", read_package)
    marbles = _read_section(fields, "Marbles", read_marble)
    secrets = _read_section(fields, "Secrets", read_secret)
    for section, entries in (("Packages", packages), ("Marbles", marbles)):
        if not entries:
            raise root.error(f"manifest has no {section}", hint="every manifest needs a package and a marble")
    for name, marble in marbles.items():
        if marble.package not in packages:
            node = fields.entries("Marbles")[name]
            raise Node(None, f"{node.path}.Package").error(
                "unknown package", got=ascii(marble.package[:80]), expected=f"one of {', '.join(sorted(packages))}"
            )
    rsa_bits = sum(secret.size for secret in secrets.values() if secret.type is SecretType.CERT_RSA)
    if rsa_bits > MOST_RSA_BITS:
        raise Node(None, "Secrets").error(
            "too much RSA to generate", got=f"{rsa_bits} bits in all", expected=f"at most {MOST_RSA_BITS}"
        )
    check_templates(marbles, secrets)
    return Manifest(
        raw=raw,
        packages=packages,
        marbles=marbles,
        secrets=secrets,
        warnings=tuple(_warnings(fields, packages, marbles, secrets)),
    )


def _read_section(fields: Fields, section: str, read: Callable[[str, Node], _Spec]) -> Mapping[str, _Spec]:
    return MappingProxyType({name: read(name, node) for name, node in fields.entries(section).items()})


def _warnings(
    fields: Fields,
    packages: Mapping[str, PackageSpec],
    marbles: Mapping[str, MarbleSpec],
    secrets: Mapping[str, SecretSpec],
) -> list[str]:
    warnings: list[str] = []
    for name, node in fields.entries("Packages").items():
        warnings += package_warnings(packages[name], node.path)
    for name, node in fields.entries("Secrets").items():
        warnings += secret_warnings(secrets[name], node.path)
    for name, node in fields.entries("Marbles").items():
        warnings += [
            f"{node.path}.Parameters.Env.{variable}: reserved, the coordinator overwrites it"
            for variable in marbles[name].parameters.env
            if variable.startswith(RESERVED_VARIABLES)
        ]
    return warnings
