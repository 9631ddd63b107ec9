"""docs/reference/manifest.md: its examples are accepted, and no key is left out."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from core_material import document
from manifest_material import recovery_pem, user_pem

from coordinator.manifest import load_manifest
from coordinator.manifest.package_update import check_package_update, read_package_update
from coordinator.manifest.schema import manifest_schema


@pytest.fixture
def page(pytestconfig) -> str:
    return (pytestconfig.rootpath / "docs" / "reference" / "manifest.md").read_text()


@pytest.fixture
def examples(page) -> list[str]:
    return re.findall(r"```json\n(.*?)```", page, re.DOTALL)


def test_the_complete_example(examples):
    manifest = load_manifest(examples[0].encode())
    assert manifest.marbles["frontend"].references == {"orders", "web"}
    assert [warning.split(": ")[0] for warning in manifest.warnings] == ["RecoveryKeys"]


def test_the_example_with_people(examples):
    example = json.loads(examples[1])
    for name, user in example["Users"].items():
        user["Certificate"] = user_pem(name)
    example["RecoveryKeys"] = {name: recovery_pem(name) for name in example["RecoveryKeys"]}
    manifest = load_manifest(json.dumps(document(**example)).encode())
    assert (manifest.update_threshold, manifest.recovery_threshold) == (2, 2)


def test_the_update_of_the_complete_example(examples):
    versions = read_package_update(examples[2].encode())
    assert versions == {"shop": 2}
    check_package_update(versions, load_manifest(examples[0].encode()).packages)


def keys(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(keys, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())).union(*map(keys, schema.values()))


def test_every_key_is_explained(page):
    excluded = {f"Excluded{kind}" for kind in ("DNSDomains", "IPRanges", "EmailAddresses", "URIDomains")}
    url = {"Opaque", "RawQuery", "Fragment", "BasicConstraintsValid"}
    missing = {key for key in keys(manifest_schema()) - excluded - url if not re.search(rf"\b{key}\b", page)}
    assert not missing
