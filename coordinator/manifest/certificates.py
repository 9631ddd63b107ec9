"""The field `Cert` of a secret: reading it into a `CertificateTemplate`.

MarbleRun decodes it as Go's `x509.Certificate`. The fields below are supported; of the others, those that name nothing
(null, zero, empty) may be there, as Go writes them, and anything else is refused.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from types import MappingProxyType

from coordinator.manifest.document import Members
from coordinator.manifest.fields import Fields, Node
from coordinator.pki.certificate_template import (
    DEFAULT_DNS_NAMES,
    DEFAULT_EXTENDED_KEY_USAGE,
    DEFAULT_KEY_USAGE,
    EXTENDED_KEY_USAGES,
    KEY_USAGE_BITS,
    LOOPBACK,
    SUBJECT_OIDS,
    CertificateTemplate,
    IPAddress,
    key_usage_is_consistent,
)

_FIELDS = (
    "Subject",
    "NotAfter",
    "DNSNames",
    "EmailAddresses",
    "IPAddresses",
    "URIs",
    "KeyUsage",
    "ExtKeyUsage",
    "IsCA",
    "MaxPathLen",
    "MaxPathLenZero",
)
_NOT_YET = (
    "Raw",
    "RawTBSCertificate",
    "RawSubjectPublicKeyInfo",
    "RawSubject",
    "RawIssuer",
    "RawSignatureAlgorithm",
    "Signature",
    "SignatureAlgorithm",
    "PublicKeyAlgorithm",
    "PublicKey",
    "Version",
    "SerialNumber",
    "Issuer",
    "NotBefore",
    "Extensions",
    "ExtraExtensions",
    "UnhandledCriticalExtensions",
    "UnknownExtKeyUsage",
    "BasicConstraintsValid",
    "SubjectKeyId",
    "AuthorityKeyId",
    "OCSPServer",
    "IssuingCertificateURL",
    "PermittedDNSDomainsCritical",
    "PermittedDNSDomains",
    "ExcludedDNSDomains",
    "PermittedIPRanges",
    "ExcludedIPRanges",
    "PermittedEmailAddresses",
    "ExcludedEmailAddresses",
    "PermittedURIDomains",
    "ExcludedURIDomains",
    "CRLDistributionPoints",
    "PolicyIdentifiers",
    "Policies",
    "InhibitAnyPolicy",
    "InhibitAnyPolicyZero",
    "InhibitPolicyMapping",
    "InhibitPolicyMappingZero",
    "RequireExplicitPolicy",
    "RequireExplicitPolicyZero",
    "PolicyMappings",
)

_DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_EMAIL_ADDRESS = re.compile(r"[!-?A-~]+@[A-Za-z0-9.-]+")  # printable ASCII without '@' and blanks
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_NO_TIME = dt.datetime(1, 1, 1, tzinfo=dt.UTC)  # how Go writes a time that was never set
_LONGEST_PATH = 255


def read_certificate_template(node: Node) -> CertificateTemplate:
    """Read and check a `Cert` object.

    Raises:
        ManifestError: a field is malformed or not supported.
    """
    fields = node.fields(_FIELDS, not_yet=_NOT_YET)
    subject_node = fields.get("Subject") or Node(Members(()), f"{node.path}.Subject")
    subject = subject_node.fields((*SUBJECT_OIDS, "SerialNumber", "CommonName"), not_yet=("Names", "ExtraNames"))
    is_ca = fields.boolean("IsCA")
    template = CertificateTemplate(
        dns_names=_matching(fields, "DNSNames", _DNS_NAME, "a DNS name") or DEFAULT_DNS_NAMES,
        ip_addresses=_read_addresses(fields),
        uris=_matching(fields, "URIs", _URI, "a URI"),
        email_addresses=_matching(fields, "EmailAddresses", _EMAIL_ADDRESS, "an e-mail address"),
        subject=MappingProxyType({name: values for name in SUBJECT_OIDS if (values := subject.texts(name))}),
        serial_number=subject.text("SerialNumber"),
        common_name=subject.text("CommonName"),
        not_after=_read_not_after(fields),
        is_ca=is_ca,
        max_path_length=_read_max_path_length(fields, is_ca=is_ca),
        key_usage=_read_key_usage(fields),
        extended_key_usage=_read_extended_key_usage(fields),
    )
    try:
        template.subject_name()
        template.extensions()
    except ValueError as error:
        raise node.error(f"certificate cannot be made from this: {error}") from None
    return template


def _matching(fields: Fields, name: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    for item in fields.items(name):
        if not pattern.fullmatch(item.text()):
            raise item.error(f"not {what}", got=ascii(item.text()[:80]))
    return fields.texts(name)


def _read_addresses(fields: Fields) -> tuple[IPAddress, ...]:
    if fields.get("IPAddresses") is None:
        return LOOPBACK
    addresses = []
    for item in fields.items("IPAddresses"):
        try:
            address = ipaddress.ip_address(item.text())
        except ValueError:
            raise item.error("not an IP address", got=ascii(item.text()[:80])) from None
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
            raise item.error("IP address has a zone", got=ascii(item.text()[:80]))
        addresses.append(address)
    return tuple(addresses)


def _read_not_after(fields: Fields) -> dt.datetime | None:
    node = fields.get("NotAfter")
    if node is None:
        return None
    text = node.text()
    try:
        # Python knows microseconds, certificates seconds: the fraction does not matter.
        time = dt.datetime.fromisoformat(re.sub(r"\.\d+", "", text.upper())) if _RFC_3339.fullmatch(text) else None
    except ValueError:
        time = None
    if time is None:
        raise node.error("not a time", got=ascii(text[:80]), expected="RFC 3339, such as 2030-01-01T00:00:00Z")
    return None if time == _NO_TIME else time


def _read_max_path_length(fields: Fields, *, is_ca: bool) -> int | None:
    # Go: 0 means no limit unless MaxPathLenZero says otherwise.
    length = fields.integer("MaxPathLen", maximum=_LONGEST_PATH)
    zero = fields.boolean("MaxPathLenZero")
    if not length and not zero:
        return None
    node = fields.get("MaxPathLen") or fields.node
    if not is_ca:
        raise node.error("MaxPathLen without IsCA", hint="only the certificate of a CA limits a path")
    if length and zero:
        raise node.error("MaxPathLen and MaxPathLenZero contradict each other")
    return length


def _read_key_usage(fields: Fields) -> int:
    bits = fields.integer("KeyUsage", maximum=(1 << len(KEY_USAGE_BITS)) - 1) or DEFAULT_KEY_USAGE
    node = fields.get("KeyUsage")
    if node is not None and not key_usage_is_consistent(bits):
        raise node.error("encipherOnly or decipherOnly without keyAgreement", got=bits)
    return bits


def _read_extended_key_usage(fields: Fields) -> tuple[int, ...]:
    numbers = []
    for item in fields.items("ExtKeyUsage"):
        number = item.integer(maximum=max(EXTENDED_KEY_USAGES))
        if number in numbers:
            raise item.error("extended key usage stands twice", got=number)
        numbers.append(number)
    return tuple(numbers) or DEFAULT_EXTENDED_KEY_USAGE
