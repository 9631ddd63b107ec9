"""Writes `seeds/`: valid inputs of every target, from which fuzzing begins. Run again when a format has changed.

Usage: python tests/fuzz/make_seeds.py
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import json
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from targets import DATA_KEY, NOW, SEEDS

from confidential_bookstore.api.marblerun.v1 import marble_pb2
from confidential_bookstore.attestation.simulation import sigstruct
from confidential_bookstore.secret import Secret
from coordinator.recovery.data_key import DataKey, RecoveryData
from coordinator.sealing import format as sealed_format
from coordinator.sealing.directory import _to_journal

ROOT = Path(__file__).parents[2]
SIGNER = "5f" * 32


def pem_of(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """A self-signed CA."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW).not_valid_after(NOW + dt.timedelta(days=3650))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def manifests() -> dict[str, Any]:
    small = {
        "Packages": {"shop": {"SignerID": SIGNER, "ProductID": 3, "SecurityVersion": 1}},
        "Marbles": {"frontend": {"Package": "shop"}},
    }
    recovery = rsa.generate_private_key(65537, 2048).public_key()
    spki = recovery.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    user = pem_of(ec.generate_private_key(ec.SECP256R1()), "alice").decode()
    name = {"DNSNames": ["db"], "Subject": {"CommonName": "db", "Organization": ["books"]}, "IsCA": True}
    full = {
        "Packages": {
            "shop": {
                "SignerID": SIGNER,
                "ProductID": 3,
                "SecurityVersion": 1,
                "AcceptedTCBStatuses": ["SWHardeningNeeded"],
            },
            "td": {"UniqueID": "a1" * 48, "RTMRs": ["00" * 48] * 4},
        },
        "Infrastructures": {"cloud": {"QESVN": 2, "PCESVN": 3}},
        "Marbles": {
            "frontend": {
                "Package": "shop",
                "MaxActivations": 3,
                "Parameters": {
                    "Files": {
                        "/k": "{{ hex .Secrets.key }}",
                        "/b": {
                            "Data": base64.b64encode(b"{{ js (pem .MarbleRun.RootCA.Cert) }}").decode(),
                            "Encoding": "base64",
                        },
                    },
                    "Env": {"NOTE": "{{ string .Secrets.note }}", "RAW": {"Data": "{{", "NoTemplates": True}},
                    "Argv": ["./frontend"],
                },
                "TLS": ["web"],
            }
        },
        "Secrets": {
            "key": {"Type": "symmetric-key", "Size": 128, "Shared": True},
            "note": {"Type": "plain", "UserDefined": True},
            "db": {"Type": "cert-ecdsa", "Size": 256, "ValidFor": 7, "Cert": name},
        },
        "Users": {"alice": {"Certificate": user, "Roles": ["writer", "updater"]}},
        "Roles": {
            "writer": {"ResourceType": "Secrets", "ResourceNames": ["note"], "Actions": ["ReadSecret", "WriteSecret"]},
            "updater": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
        },
        "RecoveryKeys": {"holder": spki},
        "TLS": {
            "web": {
                "Outgoing": [{"Addr": "db", "Port": "3306"}],
                "Incoming": [{"Port": "443", "Cert": "db", "DisableClientAuth": True}],
            }
        },
        "Config": {"SealMode": "UniqueKey", "FeatureGates": ["SignQuoteEndpoint"], "UpdateThreshold": 1},
    }
    return {"small": small, "full": full}


def templates() -> dict[str, str]:
    return {
        "functions": "{{ pem .Secrets.tls.Cert }}{{ hex .Secrets.key }}{{ base64 .Secrets.tls.Private }}",
        "js": '{{ js (pem .MarbleRun.RootCA.Cert) }}{{ printf "%q %x" .Secrets.key.Type .Secrets.key.Private }}',
        "control": (
            "{{- range $name, $s := .Secrets }}{{ if eq $s.Type `plain` }}{{ $name }}{{ else }}{{ continue }}{{ end }}"
            "{{ end }}{{/* no */}}{{ with .Previous.Secrets.note }}{{ hex . }}{{ end }}"
        ),
        "define": '{{ define "a" }}<{{ . }}>{{ end }}{{ template "a" 1 }}{{ $x := len "abc" }}{{ slice "abcd" 1 $x }}',
        "numbers": '{{ printf "%08.3f|%+d|%e|%c|%U" 1.5 -7 1e9 \'x\' 0x1F600 }}{{ println (index "abc" 1) 1_000 }}',
    }


def requests() -> dict[str, bytes]:
    key = ec.generate_private_key(ec.SECP384R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    names = [x509.DNSName("localhost"), x509.DNSName("books.example"), x509.IPAddress(ipaddress.ip_address("::1"))]
    named = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return {
        "empty": builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.DER),
        "named": named.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.DER),
    }


def _names_in(csr: bytes) -> bytes:
    request = x509.load_der_x509_csr(csr)
    return request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.public_bytes()


def everything() -> dict[str, dict[str, Any]]:
    csr = requests()
    records = {"state": b"3", "manifest": b"{}"}
    sealed = sealed_format.seal_records(records, DataKey(Secret(DATA_KEY)))
    shares = [hashlib.sha256(bytes([number])).digest() + bytes([number]) for number in (1, 2, 3)]
    data = RecoveryData.of(shares, 2).write()
    uploads = b"".join(bytes([len(share)]) + share for share in shares[:1])
    key = rsa.generate_private_key(3, 3072)
    roots = [pem_of(ec.generate_private_key(ec.SECP256R1()), f"root {number}").decode() for number in (1, 2)]
    vectors = ROOT / "tests" / "vectors"
    der = base64.b64encode(
        x509.load_pem_x509_certificate(roots[0].encode()).public_bytes(serialization.Encoding.DER)
    ).decode()

    def frame(uuid: str, **fields: Any) -> bytes:
        body = marble_pb2.ActivationReq(MarbleType="bookstore", UUID=uuid, **fields).SerializeToString()
        return b"\0" + len(body).to_bytes(4, "big") + body

    bodies = {
        "manifest": {"manifest": "e30="},
        "counter": {"name": "c", "value": 2**64 - 1},
        "upload": {"recoverySecret": "AAAA", "recoverySecretSignature": [1, 2, 3]},
        "secrets": {"secrets": {"note": {"Key": "aGVsbG8="}, "tls": {"Cert": der, "Private": ""}}},
    }
    enclaves = {path.parent.name: path.read_bytes() for path in (ROOT / "services").glob("*/enclave.json")}
    return {
        "strict_manifest": manifests(),
        "tolerant_manifest": {**manifests(), "unknown": manifests()["small"] | {"Packges": {}}},
        "template": templates(),
        "certificate_request": csr,
        "certificate_names": {name: _names_in(der) for name, der in csr.items() if name == "named"},
        "quote": {name: (vectors / name / "quote.bin").read_bytes() for name in (
            "sgx-v3-00606a000000-45ec124b", "tdx-v4-00806f050000-4b23198a", "tdx-v5-90c06f000000-4c453ea4")},
        "verdict": {"sgx": b"\0", "td": b"\1", "td5": b"\2", "edited": b"\0\0\60\0\4\3\5\0\12"},
        "recovery_data": {"shamir": data, "xor": RecoveryData.of(shares, 0).write(), "null": b"null"},
        "recovery_session": {"shamir": data + b"\n" + uploads, "lost": b"null\n" + uploads + b"\x20" + bytes(32)},
        "sealed_data": {"sealed": sealed},
        "sealed_content": {"records": {"state": "Mw==", "manifest": "e30="}, "empty": {}},
        "journal": {"pair": _to_journal(b"new data", b"new key"), "keyless": _to_journal(b"new data", None)},
        "json_body": bodies,
        "package_update": {"update": {"Packages": {"shop": {"SecurityVersion": 2}}}, "full": manifests()["small"]},
        "activation": {
            "named": frame("0a4a9b60-5e1c-4f0f-8e43-6d0f0d3c2b11", CSR=csr["named"], Quote=b"quote"),
            "short": frame("{0a4a9b60-5e1c-4f0f-8e43-6d0f0d3c2b11}", CSR=csr["empty"]),
        },
        "generations": {
            "first": {"generation": 1, "marbleRoot": roots[0], "previous": []},
            "second": {
                "generation": 2,
                "marbleRoot": roots[0],
                "previous": [{"generation": 1, "marbleRoot": roots[1], "until": 2e9, "revoked": {"bookthief": 1e9}}],
            },
        },
        "sigstruct": {"signed": sigstruct.make(key, bytes(32), product_id=3, security_version=1, date=NOW.date())},
        "enclave_json": enclaves,
    }  # fmt: skip


def main() -> None:
    for target, inputs in everything().items():
        folder = SEEDS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in inputs.items():
            text = content if isinstance(content, str | bytes) else json.dumps(content, separators=(",", ":"))
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


if __name__ == "__main__":
    main()
