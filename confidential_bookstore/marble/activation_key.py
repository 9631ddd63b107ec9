"""The key pair of one activation: its self-signed certificate and its request, as MarbleRun makes them.

The certificate carries no claim of its own: it is a public key in the form that TLS can show. The quote speaks for it.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.secret import Secret

_LOOPBACK = (ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
_LIFETIME = dt.timedelta(days=1)  # the connection it is for takes seconds; the coordinator looks at no date
_CLOCK_SKEW = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ActivationKey:
    """A fresh P-384 key: certificate (DER and PEM), PKCS#10 request (DER), private key (PEM, PKCS#8)."""

    certificate_der: bytes
    certificate_pem: bytes
    request_der: bytes
    private_key_pem: Secret[bytes]


def new_activation_key(names: Iterable[str]) -> ActivationKey:
    """Makes a key for `names`, DNS names or IP addresses; the loopback addresses are added, as MarbleRun does.

    Raises:
        ConfigurationError: a name cannot stand in a certificate.
    """
    alternative_names = _alternative_names(names)
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _self_signed(key, alternative_names)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(alternative_names, critical=False)
        .sign(key, hashes.SHA384())
    )
    return ActivationKey(
        certificate_der=certificate.public_bytes(Encoding.DER),
        certificate_pem=certificate.public_bytes(Encoding.PEM),
        request_der=request.public_bytes(Encoding.DER),
        private_key_pem=Secret(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())),
    )


def _alternative_names(names: Iterable[str]) -> x509.SubjectAlternativeName:
    dns: list[x509.GeneralName] = []
    addresses = list(_LOOPBACK)
    for name in names:
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            try:
                dns.append(x509.DNSName(name))
            except ValueError as error:
                raise ConfigurationError(
                    "EDG_MARBLE_DNS_NAMES has a name that cannot stand in a certificate",
                    got=repr(name),
                    hint=str(error),
                ) from error
        else:
            if address not in addresses:
                addresses.append(address)
    return x509.SubjectAlternativeName([*dns, *map(x509.IPAddress, addresses)])


def _self_signed(key: ec.EllipticCurvePrivateKey, names: x509.SubjectAlternativeName) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "MarbleRun Marble")])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_agreement=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA384())
    )
