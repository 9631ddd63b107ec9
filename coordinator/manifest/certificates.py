"""The field `Cert` of a secret: reading it into a `CertificateTemplate`.

MarbleRun decodes it as Go's `x509.Certificate`. Fields that MarbleRun reads and then overwrites count as unknown; those
that would change what the certificate means, and are not supported here, are refused. Either may be there as long as it
names nothing (null, zero, empty), as Go writes it.
"""

from __future__ import annotations

from types import MappingProxyType

from cryptography import x509

from coordinator.manifest.certificate_values import (
    DNS_NAME,
    DOMAIN,
    EMAIL_ADDRESS,
    general_names,
    read_addresses,
    read_matching,
    read_networks,
    read_object_identifier,
    read_object_identifiers,
    read_time,
    read_uris,
)
from coordinator.manifest.document import Members
from coordinator.manifest.fields import Fields, Node
from coordinator.pki.certificate_template import (
    DEFAULT_DNS_NAMES,
    DEFAULT_EXTENDED_KEY_USAGE,
    DEFAULT_KEY_USAGE,
    DEFAULT_SIGNATURE_ALGORITHM,
    EXTENDED_KEY_USAGES,
    KEY_USAGE_BITS,
    LOOPBACK,
    SIGNATURE_HASHES,
    SUBJECT_OIDS,
    CertificateTemplate,
    key_usage_is_consistent,
)

LONGEST_PATH = 255
LARGEST_KEY_USAGE = (1 << len(KEY_USAGE_BITS)) - 1
LONGEST_KEY_ID = 64  # bytes; a SHA-1 has 20

CERT_FIELDS = (
    "Subject",
    "NotAfter",
    "DNSNames",
    "EmailAddresses",
    "IPAddresses",
    "URIs",
    "KeyUsage",
    "ExtKeyUsage",
    "UnknownExtKeyUsage",
    "IsCA",
    "BasicConstraintsValid",
    "MaxPathLen",
    "MaxPathLenZero",
    "SubjectKeyId",
    "OCSPServer",
    "IssuingCertificateURL",
    "CRLDistributionPoints",
    "PolicyIdentifiers",
    "PermittedDNSDomainsCritical",
    "PermittedDNSDomains",
    "ExcludedDNSDomains",
    "PermittedIPRanges",
    "ExcludedIPRanges",
    "PermittedEmailAddresses",
    "ExcludedEmailAddresses",
    "PermittedURIDomains",
    "ExcludedURIDomains",
    "SignatureAlgorithm",
)
_OVERWRITTEN = (
    "Raw",
    "RawTBSCertificate",
    "RawSubjectPublicKeyInfo",
    "RawSubject",
    "RawIssuer",
    "RawSignatureAlgorithm",
    "Signature",
    "PublicKeyAlgorithm",
    "PublicKey",
    "Version",
    "SerialNumber",
    "Issuer",
    "NotBefore",
    "Extensions",
    "UnhandledCriticalExtensions",
    "AuthorityKeyId",
)
_REFUSED = (
    "ExtraExtensions",
    "Policies",
    "InhibitAnyPolicy",
    "InhibitAnyPolicyZero",
    "InhibitPolicyMapping",
    "InhibitPolicyMappingZero",
    "RequireExplicitPolicy",
    "RequireExplicitPolicyZero",
    "PolicyMappings",
)


def read_certificate_template(node: Node) -> CertificateTemplate:
    """Read and check a `Cert` object.

    Raises:
        ManifestError: a field is malformed or not supported.
    """
    fields = node.fields(CERT_FIELDS, without_effect=_OVERWRITTEN, refused=_REFUSED)
    fields.boolean("BasicConstraintsValid")  # always true in the end, so its value does not matter
    subject_node = fields.get("Subject") or Node(Members(()), f"{node.path}.Subject", node.notes)
    subject = subject_node.fields(
        (*SUBJECT_OIDS, "SerialNumber", "CommonName", "ExtraNames"), without_effect=("Names",)
    )
    is_ca = fields.boolean("IsCA")
    template = CertificateTemplate(
        dns_names=read_matching(fields, "DNSNames", DNS_NAME, "a DNS name") or DEFAULT_DNS_NAMES,
        ip_addresses=LOOPBACK if fields.get("IPAddresses") is None else read_addresses(fields, "IPAddresses"),
        uris=read_uris(fields, "URIs"),
        email_addresses=read_matching(fields, "EmailAddresses", EMAIL_ADDRESS, "an e-mail address"),
        subject=MappingProxyType({name: values for name in SUBJECT_OIDS if (values := subject.texts(name))}),
        serial_number=subject.text("SerialNumber"),
        common_name=subject.text("CommonName"),
        extra_names=tuple(_read_extra_name(item) for item in subject.items("ExtraNames")),
        not_after=read_time(fields, "NotAfter"),
        is_ca=is_ca,
        max_path_length=_read_max_path_length(fields, is_ca=is_ca),
        key_usage=_read_key_usage(fields),
        extended_key_usage=_read_extended_key_usage(fields),
        unknown_extended_key_usage=read_object_identifiers(fields, "UnknownExtKeyUsage"),
        ocsp_servers=read_uris(fields, "OCSPServer"),
        issuing_certificate_urls=read_uris(fields, "IssuingCertificateURL"),
        crl_distribution_points=read_uris(fields, "CRLDistributionPoints"),
        policy_identifiers=read_object_identifiers(fields, "PolicyIdentifiers"),
        permitted_names=_read_constraints(fields, "Permitted"),
        excluded_names=_read_constraints(fields, "Excluded"),
        name_constraints_critical=fields.boolean("PermittedDNSDomainsCritical"),
        subject_key_id=_read_subject_key_id(fields),
        signature_algorithm=_read_signature_algorithm(fields),
    )
    try:
        template.subject_name()
        template.extensions()
    except ValueError as error:
        raise node.error(f"certificate cannot be made from this: {error}") from None
    return template


def _read_extra_name(node: Node) -> tuple[str, str]:
    fields = node.fields(("Type", "Value"))
    for name in ("Type", "Value"):
        if fields.get(name) is None:
            raise node.error(f"name without {name}", expected='such as {"Type": [2, 5, 4, 42], "Value": "Ada"}')
    return read_object_identifier(fields.found["Type"]), fields.text("Value")


def _read_constraints(fields: Fields, which: str) -> tuple[x509.GeneralName, ...]:
    return (
        *general_names(x509.DNSName, fields, f"{which}DNSDomains", DOMAIN),
        *read_networks(fields, f"{which}IPRanges"),
        *general_names(x509.RFC822Name, fields, f"{which}EmailAddresses", EMAIL_ADDRESS, DOMAIN),
        *general_names(x509.UniformResourceIdentifier, fields, f"{which}URIDomains", DOMAIN),
    )


def _read_subject_key_id(fields: Fields) -> bytes:
    key_id = fields.octets("SubjectKeyId")
    if len(key_id) > LONGEST_KEY_ID:
        raise fields.found["SubjectKeyId"].error(
            "key identifier is too long", got=f"{len(key_id)} bytes", expected=f"at most {LONGEST_KEY_ID}"
        )
    return key_id


def _read_signature_algorithm(fields: Fields) -> int:
    number = fields.integer("SignatureAlgorithm") or DEFAULT_SIGNATURE_ALGORITHM
    if number not in SIGNATURE_HASHES:
        raise fields.found["SignatureAlgorithm"].error(
            "not a signature that the marble root's key can make",
            got=number,
            expected="10, 11 or 12: ECDSA with SHA-256, SHA-384 or SHA-512",
        )
    return number


def _read_max_path_length(fields: Fields, *, is_ca: bool) -> int | None:
    # Go: 0 means no limit unless MaxPathLenZero says otherwise.
    length = fields.integer("MaxPathLen", maximum=LONGEST_PATH)
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
    bits = fields.integer("KeyUsage", maximum=LARGEST_KEY_USAGE) or DEFAULT_KEY_USAGE
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
