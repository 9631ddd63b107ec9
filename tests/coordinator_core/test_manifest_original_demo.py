"""The manifest of the demo of 2021 is accepted as it is."""

from __future__ import annotations

import json

from core_material import NOW
from cryptography import x509
from original_demo_manifest import EDGELESSDB_MANIFEST, ORIGINAL_DEMO

from coordinator.manifest import load_manifest
from coordinator.manifest.template import Template
from coordinator.secrets.generation import generate_shared

MANIFEST = load_manifest(json.dumps(ORIGINAL_DEMO).encode())


def test_its_parts():
    assert MANIFEST.packages["bookstore"].debug
    assert MANIFEST.marbles["bookbuyer"].tls == ("web", "to-bookstore")
    assert MANIFEST.tls["web"].incoming[0].disable_client_auth
    assert MANIFEST.marbles["edgelessdb"].references == {"edbMasterKey", "edbRootCert"}
    assert not MANIFEST.users
    assert not MANIFEST.recovery_keys
    content = MANIFEST.marbles["edgelessdb"].parameters.files["/data/manifest.json"].content
    assert isinstance(content, Template)
    assert "js (pem .MarbleRun.RootCA.Cert)" in EDGELESSDB_MANIFEST


def test_its_certificates_are_cas_of_the_name_that_the_database_expects(authority):
    value = generate_shared(MANIFEST.secrets["bookwarehouse"], authority, NOW)
    issued = x509.load_der_x509_certificate(value.certificate)
    assert issued.subject.rfc4514_string() == "CN=bookwarehouse,O=bookstore"
    assert issued.issuer.rfc4514_string() == "CN=MarbleRun Coordinator - Intermediate CA"
    assert issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_it_is_warned_about():
    warned = {warning.split(": ")[0] for warning in MANIFEST.warnings}
    assert {"Packages.bookstore", "Secrets.bookwarehouse", "RecoveryKeys"} <= warned
