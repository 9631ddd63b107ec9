"""The section `Infrastructures`: which platforms marbles may run on, and the check of a verified quote against it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.attestation.claims import Claims
from confidential_bookstore.attestation.roots import MALFORMED, TrustRoot
from confidential_bookstore.errors import ConfigurationError, PackageMismatch
from coordinator.manifest.fields import Node

INFRASTRUCTURE = "infrastructure"  # the rule of the mismatch
CPU_SVN_SIZE = 16
_UINT16_MAX = 2**16 - 1
_PEM_START = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class InfrastructureSpec:
    """One kind of platform; what is empty or None is not looked at.

    `cpu_svn` has 16 bytes: for SGX the CPUSVN of the report, for TDX its TEE_TCB_SVN; each byte is a minimum of its
    own. `root_ca` is the certificate at the root of the platform's evidence, in PEM or DER as the manifest has it.
    """

    name: str
    cpu_svn: bytes = b""
    qe_svn: int | None = None
    pce_svn: int | None = None
    root_ca: bytes = b""

    @property
    def root_key_id(self) -> str:
        """Of the key of `root_ca`, as in `Claims`; empty if there is none."""
        return TrustRoot.from_pem(_pem(self.root_ca)).key_id if self.root_ca else ""

    def mismatches(self, claims: Claims) -> Iterator[str]:
        """The fields that do not allow the platform of these claims."""
        if any(got < minimum for got, minimum in zip(claims.cpu_svn, self.cpu_svn, strict=False)):
            yield "CPUSVN"
        if len(claims.cpu_svn) < len(self.cpu_svn):
            yield "CPUSVN"
        if self.qe_svn is not None and claims.qe_svn < self.qe_svn:
            yield "QESVN"
        if self.pce_svn is not None and claims.pce_svn < self.pce_svn:
            yield "PCESVN"
        if self.root_ca and claims.root_key_id != self.root_key_id:
            yield "RootCA"


def read_infrastructure(name: str, node: Node) -> InfrastructureSpec:
    """Read and check one entry of `Infrastructures`.

    Raises:
        ManifestError: a field is malformed.
    """
    fields = node.fields(("CPUSVN", "QESVN", "PCESVN", "RootCA"))
    spec = InfrastructureSpec(
        name=name,
        cpu_svn=fields.octets("CPUSVN"),
        qe_svn=fields.optional_integer("QESVN", maximum=_UINT16_MAX),
        pce_svn=fields.optional_integer("PCESVN", maximum=_UINT16_MAX),
        root_ca=fields.octets("RootCA"),
    )
    if len(spec.cpu_svn) not in (0, CPU_SVN_SIZE):
        raise fields.found["CPUSVN"].error(
            "not a CPUSVN", got=f"{len(spec.cpu_svn)} bytes", expected=f"{CPU_SVN_SIZE} bytes"
        )
    try:
        _ = spec.root_key_id
    except ConfigurationError as error:
        raise fields.found["RootCA"].error(f"not a root of evidence: {error}", hint=error.hint) from None
    return spec


def check_infrastructures(claims: Claims, specs: Collection[InfrastructureSpec]) -> None:
    """Accepts the claims if one of the infrastructures allows their platform, or if there are none.

    Raises:
        PackageMismatch: every one of them has something against it.
    """
    against = []
    for spec in specs:
        mismatches = ", ".join(dict.fromkeys(spec.mismatches(claims)))
        if not mismatches:
            return
        against.append(f"{ascii(spec.name[:80])[1:-1]} ({mismatches})")
    if against:
        raise PackageMismatch(
            INFRASTRUCTURE,
            got=f"CPUSVN {claims.cpu_svn.hex()}, QESVN {claims.qe_svn}, PCESVN {claims.pce_svn}, "
            f"root {claims.root_key_id[:16]}...",
            expected=f"one that allows it; against it are {', '.join(against[:8])}",
        )


def _pem(root_ca: bytes) -> bytes:
    if root_ca.lstrip().startswith(_PEM_START):
        return root_ca
    try:
        return x509.load_der_x509_certificate(root_ca).public_bytes(Encoding.PEM)
    except MALFORMED as error:
        raise ConfigurationError("neither PEM nor DER of a certificate") from error
