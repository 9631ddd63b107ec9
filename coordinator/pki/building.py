"""Parts of the certificates that the authority issues: names, usages, builders."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.pki.certificate_template import LOOPBACK, IPAddress

RandomBytes = Callable[[int], bytes]

CA_LIFETIME: Final = dt.timedelta(microseconds=(2**63 - 1) // 1000)  # Go's longest duration, 292.47 years
COMMENT_OID: Final = x509.ObjectIdentifier("2.16.840.1.113730.1.13")
SERVER_AND_CLIENT: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


def ca_builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    extensions: Iterable[x509.ExtensionType],
    *,
    now: dt.datetime,
    random: RandomBytes,
) -> x509.CertificateBuilder:
    """A certificate of this coordinator's own: a CA for certificates, server and client alike."""
    builder = certificate_builder(
        subject,
        issuer,
        public_key=public_key,
        serial=serial_number(random),
        not_before=now,
        not_after=now + CA_LIFETIME,
    )
    builder = builder.add_extension(key_usage(key_cert_sign=True), critical=True)
    builder = builder.add_extension(SERVER_AND_CLIENT, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder


def certificate_builder(
    subject: x509.Name,
    issuer: x509.Name,
    *,
    public_key: CertificatePublicKeyTypes,
    serial: int,
    not_before: dt.datetime,
    not_after: dt.datetime,
) -> x509.CertificateBuilder:
    """What every certificate has."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def serial_number(random: RandomBytes) -> int:
    """A positive serial number of at most 128 bits."""
    return int.from_bytes(random(16), "big") or 1


def issuer_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The authority key identifier of what `issuer` signs: its subject key identifier."""
    extension = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(extension.value)


def common_name(name: str) -> x509.Name:
    """A name of nothing else."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def alternative_names(dns_names: Iterable[str], ip_addresses: Iterable[IPAddress]) -> x509.SubjectAlternativeName:
    """Each once; the loopback addresses are always there."""
    addresses = dict.fromkeys([*LOOPBACK, *ip_addresses])
    return x509.SubjectAlternativeName(
        [*(x509.DNSName(name) for name in dict.fromkeys(dns_names)), *(x509.IPAddress(ip) for ip in addresses)]
    )


def key_usage(*, key_cert_sign: bool = False, key_agreement: bool = False) -> x509.KeyUsage:
    """Signatures, and what is said."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def comment(text: str) -> x509.UnrecognizedExtension:
    """Netscape's certificate comment, which every tool prints: an IA5String, here of at most 255 characters."""
    content = text.encode("ascii")
    length = bytes([len(content)] if len(content) < 128 else [0x81, len(content)])
    return x509.UnrecognizedExtension(COMMENT_OID, b"\x16" + length + content)


def comments(certificate: x509.Certificate) -> list[x509.ExtensionType]:
    """To be copied from the issuer's certificate."""
    return [extension.value for extension in certificate.extensions if extension.oid == COMMENT_OID]
