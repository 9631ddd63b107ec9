"""The section `Packages`: what code may be a marble."""

from __future__ import annotations

import re
from dataclasses import dataclass

from confidential_bookstore.attestation.package import Package
from coordinator.manifest.fields import Fields, Node

DEFAULT_TCB_STATUSES = ("SWHardeningNeeded",)
TCB_STATUSES = frozenset(
    {
        "UpToDate",
        "OutOfDate",
        "Revoked",
        "ConfigurationNeeded",
        "OutOfDateConfigurationNeeded",
        "SWHardeningNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "TDRelaunchAdvised",
        "TDRelaunchAdvisedConfigurationNeeded",
    }
)

_FIELDS = (
    "Debug",
    "UniqueID",
    "SignerID",
    "ProductID",
    "SecurityVersion",
    "AcceptedTCBStatuses",
    "AcceptedAdvisories",
)
_HEX = re.compile(r"[0-9a-f]*")
_MRENCLAVE_SIZE = _MRSIGNER_SIZE = 32
_MRTD_SIZE = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """One package as the manifest has it; ids are lower-case hex, empty if not given."""

    name: str
    debug: bool
    unique_id: str
    signer_id: str
    product_id: int | None
    security_version: int | None
    accepted_tcb_statuses: tuple[str, ...]
    accepted_advisories: tuple[str, ...]

    def to_package(self) -> Package:
        """The rules that the claims of a verified quote are checked against."""
        return Package(
            unique_id=self.unique_id,
            signer_id=self.signer_id,
            product_id=self.product_id,
            security_version=self.security_version,
            debug=self.debug,
            accepted_tcb_statuses=self.accepted_tcb_statuses,
            accepted_advisories=self.accepted_advisories,
        )

    @property
    def missing_signer_fields(self) -> tuple[str, ...]:
        """What is missing to identify code by its signer."""
        given = {
            "SignerID": bool(self.signer_id),
            "ProductID": self.product_id is not None,
            "SecurityVersion": self.security_version is not None,
        }
        return tuple(name for name, there in given.items() if not there)


def read_package(name: str, node: Node) -> PackageSpec:
    """Read and check one entry of `Packages`.

    Raises:
        ManifestError: a field is malformed, or the fields do not identify code.
    """
    fields = node.fields(_FIELDS)
    package = PackageSpec(
        name=name,
        debug=fields.boolean("Debug"),
        unique_id=_read_id(fields, "UniqueID", (_MRENCLAVE_SIZE, _MRTD_SIZE)),
        signer_id=_read_id(fields, "SignerID", (_MRSIGNER_SIZE,)),
        product_id=fields.optional_integer("ProductID"),
        security_version=fields.optional_integer("SecurityVersion"),
        accepted_tcb_statuses=_read_tcb_statuses(fields),
        accepted_advisories=fields.texts("AcceptedAdvisories"),
    )
    if package.unique_id and len(package.missing_signer_fields) < 3:
        raise node.error(
            "UniqueID stands together with SignerID, ProductID or SecurityVersion",
            hint="UniqueID alone identifies code; leave out one or the other",
        )
    if not package.debug and package.to_package().underspecified:
        raise node.error(
            "package does not identify any code",
            got=f"no UniqueID, no {', no '.join(package.missing_signer_fields)}",
            expected="UniqueID, or SignerID, ProductID and SecurityVersion",
        )
    return package


def package_warnings(package: PackageSpec, path: str) -> list[str]:
    """What is allowed in a package, but deserves a word."""
    warnings = []
    if package.debug:
        warnings.append(f"{path}: debug package: no quote of a debug enclave is accepted, so its marbles cannot start")
    if package.to_package().underspecified:
        warnings.append(f"{path}: package does not identify any code")
    if len(package.unique_id) == 2 * _MRTD_SIZE:
        warnings.append(f"{path}: the UniqueID of a trust domain names its firmware, not the software that it starts")
    return warnings


def _read_id(fields: Fields, name: str, sizes: tuple[int, ...]) -> str:
    node = fields.get(name)
    if node is None or not node.text():
        return ""
    text = node.text().lower()
    if not _HEX.fullmatch(text) or len(text) not in [2 * size for size in sizes]:
        raise node.error(
            f"not a {name}",
            got=f"{node.text()[:100]!a} ({len(text)} characters)",
            expected=f"{' or '.join(str(2 * size) for size in sizes)} hex digits",
        )
    return text


def _read_tcb_statuses(fields: Fields) -> tuple[str, ...]:
    if fields.get("AcceptedTCBStatuses") is None:
        return DEFAULT_TCB_STATUSES
    for item in fields.items("AcceptedTCBStatuses"):
        if item.text() not in TCB_STATUSES:
            raise item.error(
                "unknown TCB status", got=ascii(item.text()[:80]), expected=f"one of {', '.join(sorted(TCB_STATUSES))}"
            )
    return fields.texts("AcceptedTCBStatuses")
