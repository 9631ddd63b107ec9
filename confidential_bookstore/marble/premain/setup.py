"""Where a launched program's quote comes from, and by what its coordinator is known.

In an enclave image both are measured, and nothing on the command line changes them. Elsewhere (under Gramine, in a
trust domain) the coordinator is known by its root certificate, by a package, or by both.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography import x509

from confidential_bookstore.attestation.collateral import configured_collateral
from confidential_bookstore.attestation.enclave import MEASURED_PACKAGE, EnclaveConfig, MeasuredConfig
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.platforms import Platform, SealPolicy, find_platform
from confidential_bookstore.attestation.platforms.interface import require_report_data
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import ConfigurationError, CounterUnavailable, NoPlatform, SealingUnavailable
from confidential_bookstore.marble.coordinator_trust import CoordinatorTrust, measured_package
from confidential_bookstore.marble.environment import MarbleSettings


@dataclass(frozen=True, slots=True)
class Setup:
    """`config` is that of the enclave image, None outside of one."""

    platform: Platform
    trust: CoordinatorTrust
    config: EnclaveConfig | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTrust:
    """What the command line says of the coordinator; `trust_root` is for its quote."""

    root: x509.Certificate | None = None
    package: Package | None = None
    trust_root: TrustRoot | None = None
    without_quote: bool = False

    def setup(self, settings: MarbleSettings, environ: Mapping[str, str]) -> Setup:
        """Outside of an enclave image.

        Raises:
            ConfigurationError: the coordinator could be anybody, or this is an enclave image, or not without a quote.
            PlatformError: there is no platform, or it cannot be used.
        """
        if importlib.util.find_spec(MEASURED_PACKAGE) is not None:
            raise ConfigurationError("an enclave image knows its coordinator by its own configuration")
        platform = _none(environ) if self.without_quote else find_platform(environ)
        if self.root is None and self.package is None:
            raise ConfigurationError(
                "the coordinator could be anybody", hint="--coordinator-root PEM, or --coordinator-policy FILE"
            )
        verifier = None
        if self.package is not None:
            collateral = configured_collateral(settings.collateral_dir, settings.pccs_url)
            verifier = Verifier(self.trust_root or TrustRoot.intel(), collateral)
        return Setup(platform, CoordinatorTrust(verifier, self.package, self.root))


def measured_setup(settings: MarbleSettings, environ: Mapping[str, str]) -> Setup:
    """In an enclave image.

    Raises:
        ConfigurationError: this is none, or it names no coordinator.
        PlatformError: there is no platform, or it cannot be used.
    """
    measured = MeasuredConfig.load()
    platform = find_platform(environ)
    verifier = Verifier(measured.trust_root, configured_collateral(settings.collateral_dir, settings.pccs_url))
    return Setup(platform, CoordinatorTrust(verifier, measured_package(measured, platform)), measured.config)


class WithoutQuote:
    """Stands in where there is no platform, for coordinators that want no evidence. It proves nothing."""

    @property
    def name(self) -> str:
        """Always `none`."""
        return "none"

    def quote(self, report_data: bytes) -> bytes:
        """Empty."""
        require_report_data(report_data)
        return b""

    def sealing_key(self, policy: SealPolicy) -> bytes:
        """There is none."""
        raise SealingUnavailable("there is no platform to seal for", got=policy.value)

    def raise_counter(self, counter_id: bytes, value: int) -> int:
        """There is none."""
        del counter_id, value
        raise CounterUnavailable("there is no platform that counts")


def _none(environ: Mapping[str, str]) -> WithoutQuote:
    try:
        platform = find_platform(environ)
    except NoPlatform:
        return WithoutQuote()
    raise ConfigurationError(
        "--without-quote is refused where quotes can be had", got=f"platform {platform.name}", hint="leave it out"
    )
