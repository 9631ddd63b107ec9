"""Package updates: told from full manifests, read, and checked against the packages in force."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from core_material import SIGNER_ID, UNIQUE_ID, load, raw
from hypothesis import given
from hypothesis import strategies as st
from manifest_material import full

from confidential_bookstore.errors import ManifestError, UpdateError
from coordinator.manifest.package_update import check_package_update, read_package_update

OTHER_SECTIONS = ("Infrastructures", "Marbles", "Users", "RecoveryKeys", "Roles", "Secrets", "TLS")


def update(**document: Any) -> dict[str, int] | None:
    return read_package_update(json.dumps(document).encode())


def test_versions():
    assert update(Packages={"a": {"SecurityVersion": 5}, "b": {"securityversion": 0}}) == {"a": 5, "b": 0}


@pytest.mark.parametrize("empty", [None, {}])
@pytest.mark.parametrize("section", OTHER_SECTIONS)
def test_empty_sections_do_not_make_it_a_manifest(section, empty):
    assert update(Packages={"a": {"SecurityVersion": 5}}, **{section: empty}) == {"a": 5}


def test_config_is_not_looked_at():
    assert update(Packages={"a": {"SecurityVersion": 5}}, Config={"SealMode": "nonsense"}) == {"a": 5}


@pytest.mark.parametrize("section", OTHER_SECTIONS)
def test_any_other_section_makes_it_a_manifest(section):
    assert update(Packages={"a": {"SecurityVersion": 5}}, **{section: full()[section]}) is None
    assert read_package_update(raw()) is None


@pytest.mark.parametrize(
    "package",
    [
        {"SecurityVersion": 1, "Debug": True},
        {"SecurityVersion": 1, "UniqueID": UNIQUE_ID},
        {"SecurityVersion": 1, "SignerID": SIGNER_ID},
        {"SecurityVersion": 1, "ProductID": 0},
        {"SecurityVersion": 1, "AcceptedTCBStatuses": ["UpToDate"]},
        {"SecurityVersion": 1, "AcceptedAdvisories": ["x"]},
        {"SecurityVersion": 1, "RTMRs": [""]},
        {"Debug": True},
    ],
)
def test_other_values_are_refused(package):
    with pytest.raises(UpdateError, match=r"update manifest contains unupdatable values: got Packages\.a: [A-Z]"):
        update(Packages={"a": package})


def test_values_that_say_nothing_may_be_there():
    nothing = {"Debug": False, "UniqueID": "", "SignerID": None, "ProductID": None, "AcceptedTCBStatuses": []}
    assert update(Packages={"a": {"SecurityVersion": 5} | nothing}) == {"a": 5}


@pytest.mark.parametrize("package", [{}, {"SecurityVersion": None}, {"Debug": False}])
def test_a_security_version_is_needed(package):
    with pytest.raises(UpdateError, match="update manifest does not specify a SecurityVersion to update"):
        update(Packages={"b": {"SecurityVersion": 1}, "a": package})


@pytest.mark.parametrize("document", [{}, {"Packages": None}, {"Config": {}}])
def test_nothing_at_all(document):
    with pytest.raises(UpdateError, match="does not specify a package"):
        update(**document)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{} {}", b'{"Package": {}}', b'{"Packages": 1}', b'{"Packages": {"a": {"SecurityVersion": -1}}}'],
)
def test_what_is_not_a_document(text):
    with pytest.raises(ManifestError):
        read_package_update(text)


def test_unknown_keys_can_be_tolerated():
    text = b'{"Packages": {"a": {"SecurityVersion": 2, "Comment": ""}}, "Clients": {}}'
    assert read_package_update(text, tolerant=True) == {"a": 2}


class TestCheck:
    PACKAGES = load(
        Packages={
            "shop": {"SignerID": SIGNER_ID, "ProductID": 1, "SecurityVersion": 3},
            "pinned": {"UniqueID": UNIQUE_ID},
            "debug": {"Debug": True},
        }
    ).packages

    @pytest.mark.parametrize("versions", [{}, {"shop": 3}, {"shop": 2**64 - 1, "debug": 0}])
    def test_accepted(self, versions):
        check_package_update(versions, self.PACKAGES)

    @pytest.mark.parametrize(
        ("versions", "message"),
        [
            ({"none": 1}, "update manifest specifies a package which the original manifest does not contain"),
            ({"shop": 2}, "update manifest tries to downgrade SecurityVersion of the original manifest"),
            ({"shop": 4, "pinned": 1}, "update manifest contains unupdatable values"),
        ],
    )
    def test_refused(self, versions, message):
        with pytest.raises(UpdateError) as caught:
            check_package_update(versions, self.PACKAGES)
        assert caught.value.message == message

    def test_versions_in_force_count(self):
        in_force = {"shop": self.PACKAGES["shop"].with_security_version(9)}
        with pytest.raises(UpdateError, match="got 8, expected at least 9 for 'shop'"):
            check_package_update({"shop": 8}, in_force)


@given(
    st.binary(max_size=100)
    | st.dictionaries(st.sampled_from(["Packages", "TLS", "x"]), st.none() | st.integers()).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_bytes(data):
    versions: dict[str, int] | None = None
    with contextlib.suppress(ManifestError, UpdateError):
        versions = read_package_update(data)
    assert versions is None or all(version >= 0 for version in versions.values())
