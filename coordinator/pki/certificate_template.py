"""What the certificate of a secret looks like: the manifest's `Cert` fields, MarbleRun's defaults, X.509 extensions.

Pure values. Reading the fields out of a manifest is `coordinator.manifest.certificates`; making keys and signing is
`coordinator.secrets`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

GENERATED_NAME = "MarbleRun Generated Certificate"
DEFAULT_DNS_NAMES = ("localhost",)
LOOPBACK: tuple[IPAddress, ...] = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
DEFAULT_VALID_FOR = 365  # days

# Go's crypto/x509 KeyUsage bits, in the order of RFC 5280 4.2.1.3.
KEY_USAGE_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
DEFAULT_KEY_USAGE = 1 | 1 << 5  # digitalSignature, keyCertSign
_KEY_AGREEMENT = 1 << 4

# Go's crypto/x509 ExtKeyUsage numbers.
EXTENDED_KEY_USAGES: Mapping[int, x509.ObjectIdentifier] = MappingProxyType(
    {
        0: ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        1: ExtendedKeyUsageOID.SERVER_AUTH,
        2: ExtendedKeyUsageOID.CLIENT_AUTH,
        3: ExtendedKeyUsageOID.CODE_SIGNING,
        4: ExtendedKeyUsageOID.EMAIL_PROTECTION,
        5: x509.ObjectIdentifier("1.3.6.1.5.5.7.3.5"),  # IPSEC end system
        6: x509.ObjectIdentifier("1.3.6.1.5.5.7.3.6"),  # IPSEC tunnel
        7: x509.ObjectIdentifier("1.3.6.1.5.5.7.3.7"),  # IPSEC user
        8: ExtendedKeyUsageOID.TIME_STAMPING,
        9: ExtendedKeyUsageOID.OCSP_SIGNING,
        10: x509.ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),  # Microsoft server gated crypto
        11: x509.ObjectIdentifier("2.16.840.1.113730.4.1"),  # Netscape server gated crypto
        12: x509.ObjectIdentifier("1.3.6.1.4.1.311.2.1.22"),  # Microsoft commercial code signing
        13: x509.ObjectIdentifier("1.3.6.1.4.1.311.61.1.1"),  # Microsoft kernel code signing
    }
)
DEFAULT_EXTENDED_KEY_USAGE = (1, 2)  # server and client

# The manifest's Subject fields, in the order Go writes them into a name.
SUBJECT_OIDS: Mapping[str, x509.ObjectIdentifier] = MappingProxyType(
    {
        "Country": NameOID.COUNTRY_NAME,
        "Organization": NameOID.ORGANIZATION_NAME,
        "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "Locality": NameOID.LOCALITY_NAME,
        "Province": NameOID.STATE_OR_PROVINCE_NAME,
        "StreetAddress": NameOID.STREET_ADDRESS,
        "PostalCode": NameOID.POSTAL_CODE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTemplate:
    """The `Cert` fields of a secret. The defaults of this class are the defaults of a manifest that says nothing.

    `subject` maps a key of `SUBJECT_OIDS` to its values; `key_usage` is a sum of Go's bits; `max_path_length` is None
    for no limit.
    """

    dns_names: tuple[str, ...] = DEFAULT_DNS_NAMES
    ip_addresses: tuple[IPAddress, ...] = LOOPBACK
    uris: tuple[str, ...] = ()
    email_addresses: tuple[str, ...] = ()
    subject: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    serial_number: str = ""
    common_name: str = ""
    not_after: dt.datetime | None = None
    is_ca: bool = False
    max_path_length: int | None = None
    key_usage: int = DEFAULT_KEY_USAGE
    extended_key_usage: tuple[int, ...] = DEFAULT_EXTENDED_KEY_USAGE

    def subject_name(self) -> x509.Name:
        """The distinguished name; values of one field share a relative distinguished name, as Go writes them.

        Raises:
            ValueError: a value does not fit its attribute, for example a country of three letters.
        """
        names = [
            x509.RelativeDistinguishedName([x509.NameAttribute(SUBJECT_OIDS[key], value) for value in values])
            for key, values in self.subject.items()
            if values
        ]
        names.append(_single(NameOID.COMMON_NAME, self._common_name()))
        if self.serial_number:
            names.append(_single(NameOID.SERIAL_NUMBER, self.serial_number))
        return x509.Name(names)

    def extensions(self) -> list[tuple[x509.ExtensionType, bool]]:
        """Extensions with their criticality; those that need a key are the issuer's business.

        Raises:
            ValueError: a name cannot be encoded.
        """
        oids = [EXTENDED_KEY_USAGES[number] for number in self.extended_key_usage]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (_key_usage(self.key_usage), True),
            (x509.ExtendedKeyUsage(oids), False),
            (x509.BasicConstraints(ca=self.is_ca, path_length=self.max_path_length), True),
        ]
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in self.dns_names]
        names += [x509.RFC822Name(address) for address in self.email_addresses]
        names += [x509.IPAddress(address) for address in self.ip_addresses]
        names += [x509.UniformResourceIdentifier(uri) for uri in self.uris]
        if names:
            extensions.append((x509.SubjectAlternativeName(names), False))
        return extensions

    def _common_name(self) -> str:
        if self.common_name:
            return self.common_name
        return self.dns_names[0] if len(self.dns_names) == 1 else GENERATED_NAME


def _single(oid: x509.ObjectIdentifier, value: str) -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName([x509.NameAttribute(oid, value)])


def _key_usage(bits: int) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: bool(bits & 1 << position) for position, name in enumerate(KEY_USAGE_BITS)})


def key_usage_is_consistent(bits: int) -> bool:
    """Whether encipherOnly and decipherOnly come with keyAgreement, without which they have no meaning."""
    only = 1 << KEY_USAGE_BITS.index("encipher_only") | 1 << KEY_USAGE_BITS.index("decipher_only")
    return not bits & only or bool(bits & _KEY_AGREEMENT)
