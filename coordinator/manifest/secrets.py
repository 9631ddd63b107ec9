"""The section `Secrets`: what is generated for marbles or uploaded by users. Definitions only, no values."""

from __future__ import annotations

from dataclasses import dataclass, field

from coordinator.manifest.certificates import read_certificate_template
from coordinator.manifest.fields import Fields, Node, one_of
from coordinator.pki.certificate_template import DEFAULT_VALID_FOR, CertificateTemplate
from coordinator.secret_value import SecretType

LARGEST_SYMMETRIC_KEY = 255 * 32 * 8  # bits: what HKDF-SHA256 gives (RFC 5869)
LONGEST_VALIDITY = 106_751  # days: what fits into Go's duration

_FIELDS = ("Type", "Size", "Shared", "UserDefined", "ValidFor", "Cert")
_VALUES = ("Private", "Public")
CURVE_SIZES = (224, 256, 384, 521)
RSA_SIZES = range(1024, 8193)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSpec:
    """One secret as the manifest defines it.

    `size` is in bits (0 where the type has none), `valid_for` in days (0: the default). Secrets that are neither
    shared nor user-defined are unique to a marble.
    """

    name: str
    type: SecretType
    size: int = 0
    shared: bool = False
    user_defined: bool = False
    valid_for: int = 0
    certificate: CertificateTemplate = field(default_factory=CertificateTemplate)

    @property
    def is_unique(self) -> bool:
        """Made anew for every marble."""
        return not self.shared and not self.user_defined

    @property
    def lifetime_days(self) -> int:
        """Validity of the certificate unless the template has a NotAfter."""
        return self.valid_for or DEFAULT_VALID_FOR


def read_secret(name: str, node: Node) -> SecretSpec:
    """Read and check one entry of `Secrets`.

    Raises:
        ManifestError: a field is malformed, or does not go with the secret's type.
    """
    fields = node.fields((*_FIELDS, *_VALUES))
    for value in _VALUES:
        if (given := fields.get(value)) is not None and not given.is_empty():
            raise given.error("the value of a secret does not belong in a manifest, which everybody can read")
    kind = _read_type(fields)
    certificate = fields.get("Cert")
    spec = SecretSpec(
        name=name,
        type=kind,
        size=fields.integer("Size"),
        shared=fields.boolean("Shared"),
        user_defined=fields.boolean("UserDefined"),
        valid_for=fields.integer("ValidFor", maximum=LONGEST_VALIDITY),
        certificate=read_certificate_template(certificate) if certificate else CertificateTemplate(),
    )
    _check_size(spec, fields)
    if kind is SecretType.PLAIN and not spec.user_defined:
        raise node.error("secret of type plain is not user-defined", hint='add "UserDefined": true')
    if not kind.is_certificate:
        for name_of_field in ("Cert", "ValidFor"):
            if (given := fields.get(name_of_field)) is not None and not given.is_empty():
                raise given.error(f"only certificates have a {name_of_field}", got=f"type {kind.value}")
    if spec.certificate.not_after is not None and spec.valid_for:
        raise node.error("ValidFor and Cert.NotAfter stand together", hint="leave one of them out")
    return spec


def _read_type(fields: Fields) -> SecretType:
    text = fields.text("Type")
    for kind in SecretType:
        if kind.value == text:
            return kind
    raise (fields.get("Type") or fields.node).error(
        "unknown type of secret",
        got=ascii(text[:80]),
        expected=one_of(kind.value for kind in SecretType),
    )


def _check_size(spec: SecretSpec, fields: Fields) -> None:
    size = spec.size
    match spec.type:
        case SecretType.SYMMETRIC_KEY:
            fits = size > 0 and size % 8 == 0 and size <= LARGEST_SYMMETRIC_KEY
            expected = f"a multiple of 8 from 8 to {LARGEST_SYMMETRIC_KEY} bits"
        case SecretType.CERT_ECDSA:
            fits, expected = size in CURVE_SIZES, f"one of {', '.join(str(curve) for curve in CURVE_SIZES)}"
        case SecretType.CERT_RSA:
            fits, expected = size in RSA_SIZES, f"{RSA_SIZES[0]} to {RSA_SIZES[-1]} bits"
        case SecretType.CERT_ED25519 | SecretType.PLAIN:
            fits, expected = size == 0, "no size"
    if not fits:
        raise (fields.get("Size") or fields.node).error(
            f"size does not fit type {spec.type.value}", got=size, expected=expected
        )
