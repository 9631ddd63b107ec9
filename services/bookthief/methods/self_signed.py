"""Forges a buyer's certificate. Every name in it is right; only the signature is the thief's own."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from confidential_bookstore.pki.names import DEFAULT_TRUST_DOMAIN, MARBLE_TYPE_OID, marble_dns_name, marble_uri
from confidential_bookstore.secret import Secret
from services.bookthief.methods.over_tls import buy_over_tls

_VICTIM = "bookbuyer"


@dataclass(frozen=True, slots=True)
class SelfSignedCertificate:
    """TLS with a certificate that says bookbuyer."""

    store_address: str
    name: str = "self-signed certificate"

    async def steal(self) -> int:
        """See `Method`."""
        return await buy_over_tls(self.store_address, *forged_certificate(_VICTIM))


def forged_certificate(marble_type: str) -> tuple[bytes, Secret[bytes]]:
    """Certificate and key in PEM, with the names of a marble of this type, signed by nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, marble_type)])
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(marble_uri(marble_type, DEFAULT_TRUST_DOMAIN)),
        x509.DNSName(marble_dns_name(marble_type, DEFAULT_TRUST_DOMAIN)),
    ]
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.UnrecognizedExtension(MARBLE_TYPE_OID, marble_type.encode()), critical=False)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), Secret(pem)
