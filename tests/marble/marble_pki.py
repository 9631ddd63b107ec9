"""A small certificate authority with MarbleRun's names and extensions, for tests that need certificates of any kind."""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid as uuid_module
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confidential_bookstore.pki.names import DEFAULT_TRUST_DOMAIN, MARBLE_TYPE_OID, marble_dns_name, marble_uri

SERVICE = "/confidential_bookstore.api.bookstore.v1.BookstoreService"
INTERMEDIATE = "MarbleRun Coordinator - Intermediate CA"


def pem_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def key_pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def certificate(
    *, subject: str, key, issuer: str, issuer_key, names=(), ca=False, lifetime=3600.0, age=60.0, marble_type=None
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "crl_sign", "encipher_only", "decipher_only"],
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=age))
        .not_valid_after(now + dt.timedelta(seconds=lifetime))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_agreement=not ca, key_cert_sign=ca, **usage), critical=True
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if ca:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    if marble_type is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(MARBLE_TYPE_OID, marble_type.encode()), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA384())


@dataclass(slots=True)
class MarblePki:
    """Root, intermediate and marble root of one deployment; `leaf` issues a marble's certificate."""

    trust_domain: str = DEFAULT_TRUST_DOMAIN
    root_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    root: x509.Certificate | None = None
    intermediate: x509.Certificate = field(init=False)
    marble_root: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        names = [x509.DNSName("localhost")]
        root = "MarbleRun Coordinator"
        self.root = self.root or certificate(
            subject=root, key=self.root_key, issuer=root, issuer_key=self.root_key, names=names, ca=True
        )
        self.intermediate = certificate(
            subject=INTERMEDIATE, key=self.key, issuer=root, issuer_key=self.root_key, names=names, ca=True
        )
        self.marble_root = certificate(
            subject=INTERMEDIATE, key=self.key, issuer=INTERMEDIATE, issuer_key=self.key, names=names, ca=True
        )

    def rotated(self) -> MarblePki:
        """The next generation: the same root, another intermediate and Marble Root."""
        return dataclasses.replace(self, key=ec.generate_private_key(ec.SECP384R1()))

    def leaf(
        self,
        marble_type: str,
        *,
        uuid: str = "",
        original: bool = False,
        dns_names: tuple[str, ...] = ("localhost",),
        lifetime: float = 3600.0,
        age: float = 60.0,
    ):
        """Returns (chain PEM, key PEM); `original` without the names that an original MarbleRun does not write."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
        if not original:
            names.append(x509.DNSName(marble_dns_name(marble_type, self.trust_domain)))
            names.append(x509.UniformResourceIdentifier(marble_uri(marble_type, self.trust_domain)))
        leaf = certificate(
            subject=uuid or str(uuid_module.uuid4()),
            key=key,
            issuer=INTERMEDIATE,
            issuer_key=self.key,
            names=names,
            lifetime=lifetime,
            age=age,
            marble_type=marble_type,
        )
        return pem_of(leaf) + pem_of(self.intermediate), key_pem_of(key)
