"""The manifest in force, from logs of all kinds."""

from __future__ import annotations

import json

import pytest

from confidential_bookstore.errors import CoordinatorUnavailable
from confidential_bookstore.owner.answers import SignedManifest
from confidential_bookstore.owner.effective import effective_manifest, raised_versions

MANIFEST = SignedManifest(b'{"Packages": {"backend": {"SecurityVersion": 1}, "other": {}}}', b"")


def line(update: str, **fields: object) -> str:
    return json.dumps({"time": "2026-01-01T00:00:00.000Z", "update": update, **fields})


def raised(package: str, version: int) -> str:
    return line("SecurityVersion increased", user="alice", package=package, **{"new version": version})


def updated(manifest: SignedManifest = MANIFEST) -> str:
    return line("Complete Manifest updated", manifestFingerprint=manifest.fingerprint)


INITIAL = line("Initial manifest set")


@pytest.mark.parametrize(
    ("log", "versions"),
    [
        ([], {}),
        ([INITIAL], {}),
        ([INITIAL, raised("backend", 2), raised("other", 5), raised("backend", 3)], {"backend": 3, "other": 5}),
        ([INITIAL, raised("backend", 4), updated()], {}),
        ([INITIAL, raised("backend", 4), updated(), raised("other", 2)], {"other": 2}),
        ([updated(), raised("backend", 9), INITIAL, raised("other", 1)], {"other": 1}),
        (
            [INITIAL, raised("backend", 4), line("Complete Manifest update acknowledged by user", user="bob")],
            {"backend": 4},
        ),
        ([INITIAL, raised("backend", 4), line("Complete Manifest update cancelled by user")], {"backend": 4}),
        ([INITIAL, line("Secret set", secret="a", user="alice", type="plain")], {}),
    ],
)
def test_only_what_was_raised_since_the_last_full_manifest(log, versions):
    assert raised_versions(MANIFEST, log) == versions
    packages = effective_manifest(MANIFEST, log)["Packages"]
    expected = {"backend": {"SecurityVersion": 1}, "other": {}}
    for name, version in versions.items():
        expected[name] = {"SecurityVersion": version}
    assert packages == expected


def test_keys_in_any_case():
    manifest = SignedManifest(b'{"packages": {"backend": {"SECURITYVERSION": 1, "ProductID": 3}}}', b"")
    assert effective_manifest(manifest, [INITIAL, raised("backend", 2)]) == {
        "packages": {"backend": {"SECURITYVERSION": 2, "ProductID": 3}}
    }


def test_a_log_that_is_newer_than_the_manifest():
    with pytest.raises(CoordinatorUnavailable, match="meanwhile"):
        raised_versions(MANIFEST, [INITIAL, updated(SignedManifest(b"{}", b""))])


@pytest.mark.parametrize(
    "bad",
    ["", "text", "[]", "{}", '{"update": "SecurityVersion increased"}', raised("backend", 1).replace("1}", '"x"}')],
)
def test_a_line_that_cannot_be_read(bad):
    with pytest.raises(CoordinatorUnavailable, match="cannot be read"):
        raised_versions(MANIFEST, [INITIAL, bad])


def test_a_package_that_the_manifest_does_not_have():
    with pytest.raises(CoordinatorUnavailable, match="does not have"):
        effective_manifest(MANIFEST, [INITIAL, raised("third", 2)])
