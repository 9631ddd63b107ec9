"""Large and hostile manifests: checked in time that grows with their size and not with its square."""

from __future__ import annotations

import json

import pytest
from core_material import UNIQUE_ID, document
from manifest_material import user_pem

from confidential_bookstore.errors import ManifestError
from coordinator.manifest import load_manifest
from coordinator.manifest.document import MAX_MANIFEST_SIZE

_PORTS = {"t": {"Incoming": [{"Port": "1"}] * 30_000}}
_UPDATE = {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]}


def cert(**fields):
    return {"Secrets": {"s": {"Type": "cert-ed25519", "Cert": fields}}}


@pytest.mark.timeout(60)  # with a square in it, each would take minutes
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"Packages": {"shop": {"UniqueID": UNIQUE_ID}} | {f"p{i}": {"Debug": True} for i in range(40_000)}},
            id="packages",
        ),
        pytest.param({"Marbles": {f"m{i}": {"Package": "shop"} for i in range(30_000)}}, id="marbles"),
        pytest.param({"Marbles": {f"m{i}": {"Package": f"p{i}"} for i in range(30_000)}}, id="unknown packages"),
        pytest.param(
            {"TLS": _PORTS, "Marbles": {f"m{i}": {"Package": "shop", "TLS": ["t"]} for i in range(10_000)}}, id="tags"
        ),
        pytest.param(
            {
                "Roles": {f"r{i}": _UPDATE for i in range(3_000)},
                "Users": {"u": {"Certificate": user_pem("u"), "Roles": [f"r{i}" for i in range(3_000)] * 30}},
            },
            id="roles",
        ),
        pytest.param(
            {
                "Secrets": {"k": {"Type": "symmetric-key", "Size": 8, "Shared": True}},
                "Roles": {
                    "r": {
                        "ResourceType": "Secrets",
                        "ResourceNames": ["k"] * 60_000,
                        "Actions": ["ReadSecret"] * 30_000,
                    }
                },
            },
            id="resources",
        ),
        pytest.param({"Users": {"u": {"Certificate": "-----BEGIN CERTIFICATE-----" * 30_000}}}, id="pem"),
        pytest.param({"Secrets": {f"s{i}": {"Type": "cert-ed25519"} for i in range(25_000)}}, id="secrets"),
        pytest.param(cert(DNSNames=["a"] * 150_000), id="names"),
        pytest.param(cert(PolicyIdentifiers=[[1, 2, i] for i in range(70_000)]), id="policies"),
        pytest.param(cert(PolicyIdentifiers=[[1] * 300_000]), id="one policy"),
        pytest.param(cert(PermittedIPRanges=["::/0"] * 100_000), id="networks"),
        pytest.param({"Infrastructures": {"i": {"CPUSVN": [0] * 400_000}}}, id="numbers"),
        pytest.param({f"Package{i}": {} for i in range(50_000)}, id="unknown keys"),
    ],
)
def test_size_is_what_counts(changes):
    text = json.dumps(document(**changes), separators=(",", ":")).encode()
    assert MAX_MANIFEST_SIZE // 3 < len(text) <= MAX_MANIFEST_SIZE
    try:
        assert load_manifest(text, tolerant=True).raw == text
    except ManifestError as error:
        assert len(str(error)) < 2_000  # noqa: PT017  # either outcome is fine
