"""A manifest that is accepted can be put in force, and its marbles get the certificates that it describes."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from typing import Any

import pytest
import targets
from cryptography import x509
from hypothesis import example, given, settings
from hypothesis import strategies as st

from confidential_bookstore.errors import ManifestError
from confidential_bookstore.secret import Secret
from coordinator.deployment.activation import build_parameters
from coordinator.deployment.deployment import Deployment
from coordinator.pki.authority import Authority

CERT: dict[str, Any] = {
    "Subject": {"Country": ["DE"], "Organization": ["o"], "SerialNumber": "1", "CommonName": "c", "ExtraNames": []},
    "NotAfter": "2030-01-01T00:00:00Z",
    "DNSNames": ["a.example"],
    "EmailAddresses": ["a@b.example"],
    "IPAddresses": ["192.0.2.1"],
    "URIs": ["http://a.example/b"],
    "OCSPServer": ["http://o.example"],
    "IssuingCertificateURL": ["http://i.example"],
    "CRLDistributionPoints": ["http://c.example"],
    "PolicyIdentifiers": [[1, 2, 3]],
    "PermittedDNSDomains": ["x.example"],
    "ExcludedIPRanges": [{"IP": "10.0.0.0", "Mask": "/wAAAA=="}],
    "KeyUsage": 5,
    "ExtKeyUsage": [1, 2],
    "UnknownExtKeyUsage": [[1, 2, 3, 4]],
    "IsCA": True,
    "MaxPathLen": 1,
    "SubjectKeyId": "AAEC",
    "SignatureAlgorithm": 10,
}
ODD_TEXTS = [
    "",
    "\0",
    "é",
    "éé",
    "D_",
    "a@b",
    "a*b",
    "*.a.example",
    "x" * 300,
    "http://[::1]:99999/",
    "::1",
    "1.2.3.4/8",
]
ODD_TIMES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2030-01-01T00:00:00+14:00"]
ODD_IDENTIFIERS = [[0], [1, 40], [3, 1], [2, 5, 29, 17], [2**32, 1], list(range(1, 15))]
odd_extra = st.fixed_dictionaries(
    {
        "Type": st.sampled_from(
            [[2, 5, 4, 5], [2, 5, 4, 6], [2, 5, 4, 46], [1, 2, 840, 113549, 1, 9, 1], [0, 9, 2342, 1]]
        )
    },
    optional={"Value": st.sampled_from(ODD_TEXTS)},
)
odd = st.one_of(
    st.sampled_from([None, True, -1, 0, 1, 2**63, 1.5, {}, *ODD_TEXTS, *ODD_TIMES]),
    st.integers(0, 600),
    st.text(max_size=4),
    st.lists(st.sampled_from([*ODD_TEXTS, *ODD_IDENTIFIERS, 0, 13, None]) | odd_extra, max_size=2),
)
AUTHORITY = Authority.create(dns_names=["localhost"], now=targets.NOW)
REQUEST = targets.seeds("certificate_request")["named"]


def manifest_with(cert: dict[str, Any], *, shared: bool) -> bytes:
    parameters = {"Env": {"CERT": "{{ pem .Secrets.tls.Cert }}"}}
    return json.dumps(
        {
            "Packages": {"shop": {"SignerID": "5f" * 32, "ProductID": 3, "SecurityVersion": 1}},
            "Marbles": {"frontend": {"Package": "shop", "Parameters": parameters}},
            "Secrets": {"tls": {"Type": "cert-ecdsa", "Size": 256, "Shared": shared, "Cert": cert}},
        }
    ).encode()


def certificate_of(raw: bytes) -> x509.Certificate:
    """What a marble gets."""
    deployment, _ = Deployment.begin(AUTHORITY, Secret(bytes(32))).accept_manifest(raw, targets.NOW)
    parameters = build_parameters(
        deployment.manifest,
        "frontend",
        uuid.uuid4(),
        REQUEST,
        authority=deployment.authority,
        secrets=deployment.secrets,
        root_secret=deployment.root_secret,
        previous_root_secret=deployment.previous_root_secret,
        trust_domain="marbles.internal",
        lifetime=dt.timedelta(days=1),
        now=targets.NOW,
    )
    (certificate,) = x509.load_pem_x509_certificates(parameters.env["CERT"])
    return certificate


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*CERT, *(f"Subject.{key}" for key in CERT["Subject"])]), odd, st.booleans())
@example("Subject.SerialNumber", "é", True)
@example("Subject.Country", ["é"], False)
def test_whatever_its_cert_says(field, value, shared):
    cert = json.loads(json.dumps(CERT))
    place, _, key = field.rpartition(".")
    (cert[place] if place else cert)[key] = value
    raw = manifest_with(cert, shared=shared)
    try:
        certificate = certificate_of(raw)
    except ManifestError:
        return
    assert certificate.issuer == AUTHORITY.marble_root.subject
    assert len(list(certificate.extensions)) >= 4


@pytest.mark.parametrize("text", ["id_5", "a@b", "é", "50%"])
@pytest.mark.parametrize("field", ["SerialNumber", "CommonName"])
def test_what_is_no_printable_string_stands_in_utf_8(field, text):
    """Printable strings are ASCII letters, digits and a few signs; Go takes UTF-8 for others."""
    certificate = certificate_of(manifest_with({"Subject": {field: text}}, shared=True))
    assert text in [attribute.value for attribute in certificate.subject]
    encoded = text.encode()
    assert bytes([0x0C, len(encoded)]) + encoded in certificate.subject.public_bytes()
