"""The section `Packages`: what code may be a marble."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from confidential_bookstore.attestation.package import Package
from coordinator.manifest.fields import Fields, Node, one_of

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

PACKAGE_FIELDS = (
    "Debug",
    "UniqueID",
    "SignerID",
    "ProductID",
    "SecurityVersion",
    "AcceptedTCBStatuses",
    "AcceptedAdvisories",
    "RTMRs",
)
_HEX = re.compile(r"[0-9a-f]*")
_MRENCLAVE_SIZE = _MRSIGNER_SIZE = 32
_MRTD_SIZE = _RTMR_SIZE = 48
_MOST_RTMRS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSpec:
    """One package as the manifest has it; ids are lower-case hex, empty if not given.

    `rtmrs` is beyond MarbleRun: RTMR0 and the following of a trust domain, an empty one may be anything.
    """

    name: str
    debug: bool
    unique_id: str
    signer_id: str
    product_id: int | None
    security_version: int | None
    accepted_tcb_statuses: tuple[str, ...]
    accepted_advisories: tuple[str, ...]
    rtmrs: tuple[str, ...] = ()

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
            rtmrs=self.rtmrs,
        )

    def with_security_version(self, security_version: int) -> PackageSpec:
        """The same package after an update of its SecurityVersion."""
        return replace(self, security_version=security_version)

    @property
    def names_trust_domain(self) -> bool:
        """UniqueID is an MRTD."""
        return len(self.unique_id) == 2 * _MRTD_SIZE

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
    fields = node.fields(PACKAGE_FIELDS)
    package = PackageSpec(
        name=name,
        debug=fields.boolean("Debug"),
        unique_id=_read_id(fields, "UniqueID", (_MRENCLAVE_SIZE, _MRTD_SIZE)),
        signer_id=_read_id(fields, "SignerID", (_MRSIGNER_SIZE,)),
        product_id=fields.optional_integer("ProductID"),
        security_version=fields.optional_integer("SecurityVersion"),
        accepted_tcb_statuses=_read_tcb_statuses(fields),
        accepted_advisories=fields.texts("AcceptedAdvisories"),
        rtmrs=_read_rtmrs(fields),
    )
    if package.unique_id and len(package.missing_signer_fields) < 3:
        raise node.error(
            "UniqueID stands together with SignerID, ProductID or SecurityVersion",
            hint="UniqueID alone identifies code; leave out one or the other",
        )
    if package.rtmrs and not package.names_trust_domain:
        raise fields.found["RTMRs"].error(
            "RTMRs without the UniqueID of a trust domain", expected=f"a UniqueID of {2 * _MRTD_SIZE} hex digits"
        )
    if not package.debug and package.to_package().underspecified:
        raise node.error(
            "package does not identify any code",
            got=f"no UniqueID, no {', no '.join(package.missing_signer_fields)}",
            expected="UniqueID, or SignerID, ProductID and SecurityVersion",
        )
    return package


def _read_id(fields: Fields, name: str, sizes: tuple[int, ...]) -> str:
    node = fields.get(name)
    return _hex_id(node, name, sizes) if node else ""


def _read_rtmrs(fields: Fields) -> tuple[str, ...]:
    items = fields.items("RTMRs")
    if len(items) > _MOST_RTMRS:
        raise fields.found["RTMRs"].error("too many RTMRs", got=len(items), expected=f"at most {_MOST_RTMRS}")
    return tuple(_hex_id(item, "RTMR", (_RTMR_SIZE,)) for item in items)


def _hex_id(node: Node, what: str, sizes: tuple[int, ...]) -> str:
    text = node.text().lower()
    if text and (not _HEX.fullmatch(text) or len(text) not in [2 * size for size in sizes]):
        raise node.error(
            f"not a {what}",
            got=f"{node.text()[:100]!a} ({len(text)} characters)",
            expected=f"{' or '.join(str(2 * size) for size in sizes)} hex digits",
        )
    return text


def _read_tcb_statuses(fields: Fields) -> tuple[str, ...]:
    if fields.get("AcceptedTCBStatuses") is None:
        return DEFAULT_TCB_STATUSES
    for item in fields.items("AcceptedTCBStatuses"):
        if item.text() not in TCB_STATUSES:
            raise item.error("unknown TCB status", got=ascii(item.text()[:80]), expected=one_of(TCB_STATUSES))
    return fields.texts("AcceptedTCBStatuses")
