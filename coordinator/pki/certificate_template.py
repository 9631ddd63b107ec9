"""What the certificate of a secret looks like: the manifest's `Cert` fields, MarbleRun's defaults, X.509 extensions.

Pure values. Reading the fields out of a manifest is `coordinator.manifest.certificates`; making keys and signing is
`coordinator.secrets`.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.name import _ASN1Type  # the only way to say it
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

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

# Those of Go's crypto/x509 SignatureAlgorithm numbers that the marble root's P-384 key can make, without SHA-1.
SIGNATURE_HASHES: Mapping[int, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = MappingProxyType(
    {10: hashes.SHA256(), 11: hashes.SHA384(), 12: hashes.SHA512()}
)
DEFAULT_SIGNATURE_ALGORITHM = 11

_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?-]*")

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

    `subject` maps a key of `SUBJECT_OIDS` to its values; `extra_names` are object identifiers with values, and stand in
    place of all other values with the same identifier; `key_usage` is a sum of Go's bits; `max_path_length` is None for
    no limit. Object identifiers are dotted numbers.
    """

    dns_names: tuple[str, ...] = DEFAULT_DNS_NAMES
    ip_addresses: tuple[IPAddress, ...] = LOOPBACK
    uris: tuple[str, ...] = ()
    email_addresses: tuple[str, ...] = ()
    subject: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    serial_number: str = ""
    common_name: str = ""
    extra_names: tuple[tuple[str, str], ...] = ()
    not_after: dt.datetime | None = None
    is_ca: bool = False
    max_path_length: int | None = None
    key_usage: int = DEFAULT_KEY_USAGE
    extended_key_usage: tuple[int, ...] = DEFAULT_EXTENDED_KEY_USAGE
    unknown_extended_key_usage: tuple[str, ...] = ()
    ocsp_servers: tuple[str, ...] = ()
    issuing_certificate_urls: tuple[str, ...] = ()
    crl_distribution_points: tuple[str, ...] = ()
    policy_identifiers: tuple[str, ...] = ()
    permitted_names: tuple[x509.GeneralName, ...] = ()
    excluded_names: tuple[x509.GeneralName, ...] = ()
    name_constraints_critical: bool = False
    subject_key_id: bytes = b""
    signature_algorithm: int = DEFAULT_SIGNATURE_ALGORITHM

    @property
    def signature_hash(self) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512:
        """What the marble root's key signs the certificate with."""
        return SIGNATURE_HASHES[self.signature_algorithm]

    def subject_name(self) -> x509.Name:
        """The distinguished name; values of one field share a relative distinguished name, as Go writes them.

        Raises:
            ValueError: a value does not fit its attribute, for example a country of three letters.
        """
        values: list[tuple[x509.ObjectIdentifier, tuple[str, ...]]] = [
            (oid, self.subject.get(key, ())) for key, oid in SUBJECT_OIDS.items()
        ]
        values.append((NameOID.COMMON_NAME, (self._common_name(),)))
        values.append((NameOID.SERIAL_NUMBER, (self.serial_number,) if self.serial_number else ()))
        extra = [(x509.ObjectIdentifier(oid), value) for oid, value in self.extra_names]
        replaced = {oid for oid, _ in extra}
        names = [_relative_name(oid, texts) for oid, texts in values if texts and oid not in replaced]
        return x509.Name([*names, *(_relative_name(oid, (value,)) for oid, value in extra)])

    def extensions(self) -> list[tuple[x509.ExtensionType, bool]]:
        """Extensions with their criticality; those that need a key are the issuer's business.

        Raises:
            ValueError: a name or an object identifier cannot be encoded.
        """
        oids = [EXTENDED_KEY_USAGES[number] for number in self.extended_key_usage]
        oids += [x509.ObjectIdentifier(oid) for oid in self.unknown_extended_key_usage]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (_key_usage(self.key_usage), True),
            (x509.ExtendedKeyUsage(oids), False),
            (x509.BasicConstraints(ca=self.is_ca, path_length=self.max_path_length), True),
        ]
        if self.subject_key_id:
            extensions.append((x509.SubjectKeyIdentifier(self.subject_key_id), False))
        if accesses := self._authority_information():
            extensions.append((x509.AuthorityInformationAccess(accesses), False))
        if names := self._alternative_names():
            extensions.append((x509.SubjectAlternativeName(names), False))
        if policies := [x509.PolicyInformation(x509.ObjectIdentifier(oid), None) for oid in self.policy_identifiers]:
            extensions.append((x509.CertificatePolicies(policies), False))
        if self.permitted_names or self.excluded_names:
            constraints = x509.NameConstraints(list(self.permitted_names) or None, list(self.excluded_names) or None)
            extensions.append((constraints, self.name_constraints_critical))
        if self.crl_distribution_points:
            points = [_distribution_point(url) for url in self.crl_distribution_points]
            extensions.append((x509.CRLDistributionPoints(points), False))
        return extensions

    def _authority_information(self) -> list[x509.AccessDescription]:
        return [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
            for method, urls in (
                (AuthorityInformationAccessOID.OCSP, self.ocsp_servers),
                (AuthorityInformationAccessOID.CA_ISSUERS, self.issuing_certificate_urls),
            )
            for url in urls
        ]

    def _alternative_names(self) -> list[x509.GeneralName]:
        return [
            *(x509.DNSName(name) for name in self.dns_names),
            *(x509.RFC822Name(address) for address in self.email_addresses),
            *(x509.IPAddress(address) for address in self.ip_addresses),
            *(x509.UniformResourceIdentifier(uri) for uri in self.uris),
        ]

    def _common_name(self) -> str:
        if self.common_name:
            return self.common_name
        return self.dns_names[0] if len(self.dns_names) == 1 else GENERATED_NAME


def _relative_name(oid: x509.ObjectIdentifier, values: tuple[str, ...]) -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName([_attribute(oid, value) for value in values])


def _attribute(oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    """As in Go: UTF-8 for what a PrintableString, which some attributes are by default, cannot say."""
    return x509.NameAttribute(oid, value, None if _PRINTABLE.fullmatch(value) else _ASN1Type.UTF8String)


def _distribution_point(url: str) -> x509.DistributionPoint:
    return x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)


def _key_usage(bits: int) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: bool(bits & 1 << position) for position, name in enumerate(KEY_USAGE_BITS)})


def key_usage_is_consistent(bits: int) -> bool:
    """Whether encipherOnly and decipherOnly come with keyAgreement, without which they have no meaning."""
    only = 1 << KEY_USAGE_BITS.index("encipher_only") | 1 << KEY_USAGE_BITS.index("decipher_only")
    return not bits & only or bool(bits & _KEY_AGREEMENT)
