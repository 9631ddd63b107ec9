"""The JSON Schema of a secret's `Cert`."""

from __future__ import annotations

from coordinator.manifest.certificates import LARGEST_KEY_USAGE, LONGEST_PATH
from coordinator.manifest.schema_terms import Schema, listed, object_identifier, octets, record, text, truth, whole
from coordinator.pki.certificate_template import EXTENDED_KEY_USAGES, SIGNATURE_HASHES, SUBJECT_OIDS

_NAME = text("A value.")
_URL = {
    "description": "A URI, or an object as Go writes a url.URL.",
    "anyOf": [
        text("A URI.", pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$"),
        record(
            "Go's url.URL.",
            {name: text("A part.") for name in ("Opaque", "Host", "Path", "RawQuery", "Fragment")},
            required={"Scheme": text("Such as https.")},
        ),
    ],
}
_NETWORK = {
    "description": "A network: such as 10.0.0.0/8, or an object as Go writes a net.IPNet.",
    "anyOf": [
        text("An address with the length of its prefix.", pattern="^[0-9A-Fa-f.:]+/[0-9]+$"),
        record("Go's net.IPNet.", {}, required={"IP": text("An address."), "Mask": octets("The mask.")}),
    ],
}
_DOMAIN = text("A domain; with a dot in front: what is below it.")


def certificate_schema() -> Schema:
    """Fields that have an effect. What Go writes besides is refused unless it is empty, which the schema leaves out."""
    constraints = {
        f"{which}{kind}": listed(f"Names that certificates below this CA {verb} have.", items)
        for which, verb in (("Permitted", "may"), ("Excluded", "may not"))
        for kind, items in (
            ("DNSDomains", _DOMAIN),
            ("IPRanges", _NETWORK),
            ("EmailAddresses", text("An address, a host, or a domain with a dot in front.")),
            ("URIDomains", _DOMAIN),
        )
    }
    return record(
        "What the certificate looks like, as Go's x509.Certificate in JSON.",
        {
            "Subject": _subject(),
            "NotAfter": text(
                "When the certificate ends, RFC 3339. Not together with ValidFor.", examples=["2030-01-01T00:00:00Z"]
            ),
            "DNSNames": listed('DNS names; ["localhost"] if there are none.', text("A name.")),
            "EmailAddresses": listed("E-mail addresses.", text("An address.", pattern="^.+@.+$")),
            "IPAddresses": listed("IP addresses; 127.0.0.1 and ::1 if the field is absent.", text("An address.")),
            "URIs": listed("URIs.", _URL),
            "KeyUsage": whole(
                "Sum of: 1 digitalSignature, 2 contentCommitment, 4 keyEncipherment, 8 dataEncipherment, "
                "16 keyAgreement, 32 certSign, 64 cRLSign, 128 encipherOnly, 256 decipherOnly. 33 if 0.",
                maximum=LARGEST_KEY_USAGE,
            ),
            "ExtKeyUsage": listed(
                "Numbers: 0 any, 1 serverAuth, 2 clientAuth, 3 codeSigning, 4 emailProtection, 5 to 7 IPSEC, "
                "8 timeStamping, 9 OCSPSigning, 10 to 13 Microsoft's and Netscape's. [1, 2] if empty.",
                whole("A usage.", maximum=max(EXTENDED_KEY_USAGES)),
                uniqueItems=True,
            ),
            "UnknownExtKeyUsage": listed(
                "Further extended key usages.", object_identifier("An object identifier."), uniqueItems=True
            ),
            "IsCA": truth("The certificate is a CA below the Marble Root."),
            "BasicConstraintsValid": truth("Without effect, the extension is always there."),
            "MaxPathLen": whole("How many CAs may follow this one; 0 for no limit.", maximum=LONGEST_PATH),
            "MaxPathLenZero": truth("No CA may follow this one."),
            "SubjectKeyId": octets("Identifier of the key; a CA has one anyway."),
            "OCSPServer": listed("Addresses of OCSP servers.", _URL),
            "IssuingCertificateURL": listed("Where the issuer's certificate is.", _URL),
            "CRLDistributionPoints": listed("Where revocation lists are.", _URL),
            "PolicyIdentifiers": listed(
                "Certificate policies.", object_identifier("An object identifier."), uniqueItems=True
            ),
            "PermittedDNSDomainsCritical": truth("The name constraints are a critical extension."),
            **constraints,
            "SignatureAlgorithm": {
                "description": "10, 11 or 12: ECDSA with SHA-256, SHA-384 or SHA-512. 11 if 0.",
                "enum": [0, *SIGNATURE_HASHES],
            },
        },
    )


def _subject() -> Schema:
    return record(
        "The distinguished name.",
        {
            **{name: listed(f"Values of {name}.", _NAME) for name in SUBJECT_OIDS},
            "SerialNumber": text("A number of the subject, not of the certificate."),
            "CommonName": text("If empty: the only DNS name, or MarbleRun Generated Certificate."),
            "ExtraNames": listed(
                "Further attributes; each stands in place of the others of its type.",
                record(
                    "An attribute.",
                    {},
                    required={"Type": object_identifier("Its object identifier."), "Value": text("Its value.")},
                ),
            ),
        },
    )
