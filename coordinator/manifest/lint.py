"""What a manifest may say but hardly means: warnings, each with a way out. Never an error."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.manifest.fields import join_path
from coordinator.manifest.model import Manifest
from coordinator.manifest.packages import PackageSpec
from coordinator.manifest.secrets import SecretSpec
from coordinator.pki.certificate_template import CertificateTemplate


@dataclass(frozen=True, slots=True)
class Finding:
    """One warning: where, what, and what to do about it (may be empty)."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def lint(manifest: Manifest) -> tuple[Finding, ...]:
    """All findings, in the order of the sections."""
    return tuple(_findings(manifest))


def _findings(manifest: Manifest) -> Iterator[Finding]:
    for name, package in manifest.packages.items():
        yield from _package(join_path("Packages", name), package)
    for name, secret in manifest.secrets.items():
        yield from _secret(join_path("Secrets", name), secret)
    for name, marble in manifest.marbles.items():
        for variable in marble.parameters.env:
            if variable.startswith("MARBLE_PREDEFINED_"):
                path = join_path(f"{join_path('Marbles', name)}.Parameters.Env", variable)
                yield Finding(path, "reserved, the coordinator overwrites it")


def _package(path: str, package: PackageSpec) -> Iterator[Finding]:
    if package.debug:
        yield Finding(path, "debug package: no quote of a debug enclave is accepted, so its marbles cannot start")
    if package.to_package().underspecified:
        yield Finding(path, "package does not identify any code")
    if package.names_trust_domain and not package.rtmrs:
        yield Finding(path, "the UniqueID of a trust domain names its firmware, not the software that it starts")


def _secret(path: str, secret: SecretSpec) -> Iterator[Finding]:
    if secret.user_defined:
        if secret.valid_for or secret.certificate != CertificateTemplate():
            yield Finding(path, "Cert and ValidFor have no effect on a certificate that is uploaded")
    elif secret.certificate.is_ca:
        yield Finding(
            path, "certificate is a CA below the marble root: its holder can issue certificates for any marble"
        )
