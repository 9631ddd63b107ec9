"""The manifest of the bookstore demo of 2021, rebuilt from what it is known to contain.

Debug packages, certificates that are CAs, transparent TLS, and EdgelessDB's manifest as a base64 file with templates.
"""

from __future__ import annotations

import base64
from typing import Any

SIGNER_ID = "c1" * 32

EDGELESSDB_MANIFEST = """{
    "sql": [
        "CREATE USER bookwarehouse REQUIRE ISSUER 'ISSUER_NAME' SUBJECT '/CN=bookwarehouse'",
        "CREATE DATABASE bookwarehouse",
        "GRANT ALL ON bookwarehouse.* TO bookwarehouse"
    ],
    "ca": "{{ js (pem .MarbleRun.RootCA.Cert) }}",
    "recovery": ""
}""".replace("ISSUER_NAME", "/CN=MarbleRun Coordinator - Intermediate CA")


def _package(product_id: int) -> dict[str, Any]:
    return {"Debug": True, "SignerID": SIGNER_ID, "ProductID": product_id, "SecurityVersion": 1}


def _certificate(name: str, *, shared: bool = False) -> dict[str, Any]:
    return {
        "Type": "cert-ecdsa",
        "Size": 256,
        "Shared": shared,
        "Cert": {
            "DNSNames": [name, "localhost"],
            "Subject": {"CommonName": name, "Organization": ["bookstore"]},
            "IsCA": True,
        },
    }


def _service(package: str, *tags: str) -> dict[str, Any]:
    return {
        "Package": package,
        "Parameters": {
            "Argv": [f"./{package}", "--port", "14001"],
            "Env": {"HOME": "/root", "IDENTITY": package, "SSL_CERT_FILE": "/dev/attestation/ca.pem"},
        },
        "TLS": list(tags),
    }


ORIGINAL_DEMO: dict[str, Any] = {
    "Packages": {
        "bookbuyer": _package(11),
        "bookthief": _package(12),
        "bookstore": _package(13),
        "bookwarehouse": _package(14),
        "edgelessdb": {"SignerID": SIGNER_ID, "ProductID": 16, "SecurityVersion": 1},
    },
    "Marbles": {
        "bookbuyer": _service("bookbuyer", "web", "to-bookstore"),
        "bookthief": _service("bookthief", "web", "to-bookstore"),
        "bookstore": _service("bookstore", "bookstore", "to-bookwarehouse"),
        "bookwarehouse": {
            "Package": "bookwarehouse",
            "Parameters": {
                "Argv": ["./bookwarehouse"],
                "Files": {
                    "/tls/client.pem": "{{ pem .Secrets.bookwarehouse.Cert }}",
                    "/tls/client.key": "{{ pem .Secrets.bookwarehouse.Private }}",
                },
            },
            "TLS": ["bookwarehouse"],
        },
        "edgelessdb": {
            "Package": "edgelessdb",
            "Parameters": {
                "Env": {
                    "EDG_EDB_MASTER_KEY": "{{ hex .Secrets.edbMasterKey.Private }}",
                    "EDG_EDB_ROOT_CERT": "{{ pem .Secrets.edbRootCert.Cert }}",
                    "EDG_EDB_ROOT_KEY": "{{ pem .Secrets.edbRootCert.Private }}",
                    "EDG_EDB_MANIFEST_FILE": "/data/manifest.json",
                },
                "Files": {
                    "/data/manifest.json": {
                        "Encoding": "base64",
                        "Data": base64.b64encode(EDGELESSDB_MANIFEST.encode()).decode(),
                    }
                },
            },
        },
    },
    "Secrets": {
        "webFrontend": _certificate("localhost", shared=True),
        "bookwarehouse": _certificate("bookwarehouse"),
        "edbRootCert": _certificate("edgelessdb", shared=True),
        "edbMasterKey": {"Type": "symmetric-key", "Size": 128, "Shared": True},
    },
    "TLS": {
        "web": {"Incoming": [{"Port": "8080", "Cert": "webFrontend", "DisableClientAuth": True}]},
        "bookstore": {"Incoming": [{"Port": "14001"}]},
        "bookwarehouse": {"Incoming": [{"Port": "14001"}]},
        "to-bookstore": {"Outgoing": [{"Addr": "bookstore", "Port": "14001"}]},
        "to-bookwarehouse": {"Outgoing": [{"Addr": "bookwarehouse", "Port": "14001"}]},
    },
}
