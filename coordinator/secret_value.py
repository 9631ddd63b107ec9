"""One secret with its value: what templates show, what the state keeps, what a user reads.

Certificates and keys are DER here; PEM is made at the edges. Values never appear in a repr.
"""

from __future__ import annotations

import base64
import binascii
import enum
import json
from dataclasses import dataclass

from confidential_bookstore.errors import SealedStateError
from confidential_bookstore.secret import Secret


class SecretType(enum.Enum):
    """MarbleRun's names of the kinds of secrets."""

    SYMMETRIC_KEY = "symmetric-key"
    CERT_RSA = "cert-rsa"
    CERT_ECDSA = "cert-ecdsa"
    CERT_ED25519 = "cert-ed25519"
    PLAIN = "plain"

    @property
    def is_certificate(self) -> bool:
        """A key pair with a certificate, in contrast to plain bytes."""
        return self.value.startswith("cert-")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretValue:
    """A secret's definition and its value.

    For certificates `private` is PKCS#8 and `public` SubjectPublicKeyInfo. For symmetric keys and plain secrets both
    are the value itself, which is why `public` is as secret as `private`. A user-defined secret which nobody has
    uploaded yet has no such object.
    """

    type: SecretType
    size: int = 0  # bits
    shared: bool = False
    user_defined: bool = False
    valid_for: int = 0  # days
    certificate: bytes | None = None  # DER
    private: Secret[bytes]
    public: Secret[bytes]

    def to_record(self) -> bytes:
        """JSON with MarbleRun's field names and order; byte values in base64, what is missing is null."""
        return json.dumps(
            {
                "Type": self.type.value,
                "Size": self.size,
                "Shared": self.shared,
                "UserDefined": self.user_defined,
                "Cert": _encode(self.certificate),
                "ValidFor": self.valid_for,
                "Private": _encode(self.private.reveal()),
                "Public": _encode(self.public.reveal()),
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_record(cls, record: bytes) -> SecretValue:
        """Read what `to_record` wrote.

        Raises:
            SealedStateError: it is something else.
        """
        try:
            fields = json.loads(record)
            return cls(
                type=SecretType(fields["Type"]),
                size=int(fields["Size"]),
                shared=bool(fields["Shared"]),
                user_defined=bool(fields["UserDefined"]),
                valid_for=int(fields["ValidFor"]),
                certificate=_decode(fields["Cert"]) or None,
                private=Secret(_decode(fields["Private"])),
                public=Secret(_decode(fields["Public"])),
            )
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            # The cause would quote the record in a traceback.
            raise SealedStateError("a stored secret cannot be read") from None


def _encode(value: bytes | None) -> str | None:
    return base64.b64encode(value).decode() if value else None


def _decode(value: str | None) -> bytes:
    return base64.b64decode(value, validate=True) if value is not None else b""
