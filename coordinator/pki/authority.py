"""The coordinator's certificate authority, with MarbleRun's names, keys and extensions.

    Coordinator Root           self-signed by the root key; the identity of a deployment
    Coordinator Intermediate   subject and key of the marble root, signed by the root key
    Marble Root                self-signed by the intermediate key
    marble certificate         signed by the intermediate key

Intermediate and marble root share subject and key, so a marble's certificate leads to the coordinator root (through the
intermediate) and to the marble root alike.

An update makes a new intermediate key, and so a new marble root; the root stays for good.

No I/O and no state: serial numbers and the time come in from outside. Keys come from OpenSSL's generator.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from confidential_bookstore.errors import SealedStateError
from confidential_bookstore.pki.names import MARBLE_TYPE_OID, marble_dns_name, marble_uri
from confidential_bookstore.secret import Secret
from coordinator.pki.building import (
    SERVER_AND_CLIENT,
    RandomBytes,
    alternative_names,
    ca_builder,
    certificate_builder,
    comment,
    comments,
    common_name,
    issuer_key_identifier,
    key_usage,
    serial_number,
)
from coordinator.pki.certificate_request import requested_names
from coordinator.pki.certificate_template import IPAddress

ROOT_NAME = "MarbleRun Coordinator"
INTERMEDIATE_NAME = "MarbleRun Coordinator - Intermediate CA"
CLOCK_SKEW = dt.timedelta(minutes=1)

ROOT_CERTIFICATE_RECORD = "certificate:coordinatorRootCert"
INTERMEDIATE_CERTIFICATE_RECORD = "certificate:coordinatorIntermediateCert"
MARBLE_ROOT_CERTIFICATE_RECORD = "certificate:marbleRootCert"
ROOT_KEY_RECORD = "privateKey:coordinatorRootKey"
INTERMEDIATE_KEY_RECORD = "privateKey:coordinatorIntermediateKey"


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate and the private key that was made for it."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_der(self) -> bytes:
        """DER of the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def private_key_der(self) -> Secret[bytes]:
        """DER of the key, PKCS#8."""
        return Secret(
            self.private_key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @property
    def public_key_der(self) -> bytes:
        """DER of the public key, SubjectPublicKeyInfo."""
        return self.certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )


@dataclass(frozen=True, slots=True)
class Authority:
    """Three certificates and the two keys behind them."""

    root: x509.Certificate
    intermediate: x509.Certificate
    marble_root: x509.Certificate
    root_key: ec.EllipticCurvePrivateKey = field(repr=False)
    intermediate_key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(
        cls,
        *,
        dns_names: Iterable[str],
        ip_addresses: Iterable[IPAddress] = (),
        label: str = "",
        now: dt.datetime,
        random: RandomBytes = os.urandom,
    ) -> Authority:
        """New keys and certificates for the names under which clients reach this coordinator.

        Args:
            dns_names: subject alternative names of all three certificates.
            ip_addresses: further addresses; 127.0.0.1 and ::1 are always there.
            label: how this coordinator attests marbles; a comment in every certificate, ASCII.
            now: start of validity, with a time zone.
            random: 16 bytes for each serial number.
        """
        key = ec.generate_private_key(ec.SECP384R1())
        extensions: list[x509.ExtensionType] = [alternative_names(dns_names, ip_addresses)]
        if label:
            extensions.append(comment(label))
        name = common_name(ROOT_NAME)
        builder = ca_builder(name, name, key.public_key(), extensions, now=now, random=random)
        return _with_new_intermediate(builder.sign(key, hashes.SHA384()), key, now=now, random=random)

    def rotated(self, now: dt.datetime, random: RandomBytes = os.urandom) -> Authority:
        """The same root with a new intermediate key: what an update brings. All names are those of the root.

        Args:
            now: start of validity, with a time zone.
            random: 16 bytes for each serial number.
        """
        return _with_new_intermediate(self.root, self.root_key, now=now, random=random)

    def to_records(self) -> dict[str, bytes]:
        """Store keys and values as MarbleRun has them: certificates in DER, keys in SEC1 DER. To be sealed."""
        return {
            ROOT_CERTIFICATE_RECORD: _der(self.root),
            INTERMEDIATE_CERTIFICATE_RECORD: _der(self.intermediate),
            MARBLE_ROOT_CERTIFICATE_RECORD: _der(self.marble_root),
            ROOT_KEY_RECORD: _sec1(self.root_key),
            INTERMEDIATE_KEY_RECORD: _sec1(self.intermediate_key),
        }

    @classmethod
    def from_records(cls, records: Mapping[str, bytes]) -> Authority:
        """Read what `to_records` wrote; other records are left alone.

        Raises:
            SealedStateError: a record is missing or malformed, or a key does not belong to its certificate.
        """
        authority = cls(
            root=_load_certificate(records, ROOT_CERTIFICATE_RECORD),
            intermediate=_load_certificate(records, INTERMEDIATE_CERTIFICATE_RECORD),
            marble_root=_load_certificate(records, MARBLE_ROOT_CERTIFICATE_RECORD),
            root_key=_load_key(records, ROOT_KEY_RECORD),
            intermediate_key=_load_key(records, INTERMEDIATE_KEY_RECORD),
        )
        intermediate_public = authority.intermediate_key.public_key()
        if authority.root.public_key() != authority.root_key.public_key() or any(
            certificate.public_key() != intermediate_public
            for certificate in (authority.intermediate, authority.marble_root)
        ):
            raise SealedStateError("a stored key does not belong to its certificate")
        return authority

    def sign(self, data: bytes) -> bytes:
        """ECDSA signature (ASN.1) by the root key over the SHA-256 of `data`: how a manifest is signed."""
        return self.root_key.sign(data, ec.ECDSA(hashes.SHA256()))

    def issue_marble_certificate(
        self,
        csr_der: bytes,
        *,
        marble_type: str,
        uuid: UUID,
        trust_domain: str,
        lifetime: dt.timedelta,
        now: dt.datetime,
        reserved_names: Collection[str],
        random: RandomBytes = os.urandom,
    ) -> IssuedCertificate:
        """A fresh P-384 key and its certificate for one marble.

        The request gives DNS names and IP addresses and nothing else; its key is not used. The names by which peers
        recognise a marble come from `marble_type`. Validity starts a little before `now` (a minute, at most a tenth of
        the lifetime), so that a peer whose clock is slightly behind accepts a certificate that was just issued.

        Args:
            csr_der: PKCS#10, signed by its own key.
            marble_type: a type of the manifest.
            uuid: of this marble; its canonical text is the common name.
            trust_domain: of the marble's URI and DNS names.
            lifetime: from `now`.
            now: with a time zone.
            reserved_names: the names of all marble types; only a marble's own may be one of its DNS names.
            random: 16 bytes for the serial number.

        Raises:
            InvalidRequest: the request cannot be read, is not signed by its key, or asks for a name it may not have.
        """
        others = [name for name in reserved_names if name != marble_type]
        requested = requested_names(csr_der, trust_domain=trust_domain, reserved_names=others)
        names = x509.SubjectAlternativeName(
            [
                *requested,
                x509.DNSName(marble_dns_name(marble_type, trust_domain)),
                x509.UniformResourceIdentifier(marble_uri(marble_type, trust_domain)),
            ]
        )
        key = ec.generate_private_key(ec.SECP384R1())
        builder = certificate_builder(
            common_name(str(uuid)),
            self.marble_root.subject,
            public_key=key.public_key(),
            serial=serial_number(random),
            not_before=now - min(CLOCK_SKEW, lifetime / 10),
            not_after=now + lifetime,
        )
        builder = builder.add_extension(key_usage(key_agreement=True), critical=True)
        builder = builder.add_extension(SERVER_AND_CLIENT, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(issuer_key_identifier(self.marble_root), critical=False)
        builder = builder.add_extension(names, critical=False)
        marble_type_extension = x509.UnrecognizedExtension(MARBLE_TYPE_OID, marble_type.encode("ascii"))
        builder = builder.add_extension(marble_type_extension, critical=False)
        for label in comments(self.root):
            builder = builder.add_extension(label, critical=False)
        return IssuedCertificate(builder.sign(self.intermediate_key, hashes.SHA384()), key)


def _with_new_intermediate(
    root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, *, now: dt.datetime, random: RandomBytes
) -> Authority:
    names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    extensions: list[x509.ExtensionType] = [names, *comments(root)]
    key = ec.generate_private_key(ec.SECP384R1())
    subject, public_key = common_name(INTERMEDIATE_NAME), key.public_key()
    below_root = ca_builder(
        subject, root.subject, public_key, [*extensions, issuer_key_identifier(root)], now=now, random=random
    )
    self_signed = ca_builder(subject, subject, public_key, extensions, now=now, random=random)
    return Authority(
        root=root,
        intermediate=below_root.sign(root_key, hashes.SHA384()),
        marble_root=self_signed.sign(key, hashes.SHA384()),
        root_key=root_key,
        intermediate_key=key,
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _sec1(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def _record(records: Mapping[str, bytes], name: str) -> bytes:
    try:
        return records[name]
    except KeyError:
        raise SealedStateError("a record is missing in the state", got="nothing", expected=name) from None


def _load_certificate(records: Mapping[str, bytes], name: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(_record(records, name))
    except ValueError:
        raise SealedStateError("a stored certificate cannot be read", got=name) from None


def _load_key(records: Mapping[str, bytes], name: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_der_private_key(_record(records, name), password=None)
    except (ValueError, TypeError):
        raise SealedStateError("a stored key cannot be read", got=name) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SealedStateError("a stored key is of the wrong kind", got=name, expected="an EC key")
    return key
