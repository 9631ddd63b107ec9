"""Reading the bytes: JSON, its limits, and fields with their paths."""

from __future__ import annotations

import hashlib
import json

import pytest
from core_material import SIGNER_ID, UNIQUE_ID, document, load, raw
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import ManifestError
from coordinator.manifest import Manifest, load_manifest
from coordinator.manifest.document import MAX_MANIFEST_SIZE, MAX_NESTING


def refusal(raw_manifest: bytes) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        load_manifest(raw_manifest)
    return caught.value


def test_the_raw_bytes_are_the_identity():
    text = raw() + b"\n  "
    manifest = load_manifest(text)
    assert manifest.raw == text
    assert manifest.fingerprint == hashlib.sha256(text).hexdigest()


def test_keys_are_case_insensitive_as_in_go():
    manifest = load_manifest(
        json.dumps(
            {
                "packages": {"shop": {"SIGNERID": SIGNER_ID.upper(), "productid": 3, "securityVERSION": 1}},
                "MARBLES": {"frontend": {"package": "shop", "maxactivations": 2}},
            }
        ).encode()
    )
    assert manifest.packages["shop"].signer_id == SIGNER_ID
    assert manifest.marbles["frontend"].max_activations == 2


def test_names_are_compared_exactly():
    package = {"UniqueID": UNIQUE_ID}
    manifest = load(Packages={"shop": package, "Shop": package})
    assert set(manifest.packages) == {"shop", "Shop"}


@pytest.mark.parametrize("empty", [{}, None, [], "", 0])
@pytest.mark.parametrize("section", ["Infrastructures", "Users", "Roles", "RecoveryKeys", "TLS", "Config"])
def test_empty_sections_are_as_good_as_absent_ones(section, empty):
    text = json.dumps(document() | {section: empty}).encode()
    assert load_manifest(text).marbles.keys() == {"frontend"}


@pytest.mark.parametrize("section", ["Infrastructures", "Users", "Roles", "RecoveryKeys", "TLS", "Config"])
def test_sections_that_are_not_supported_yet_are_refused_by_name(section):
    error = refusal(json.dumps(document() | {section.lower(): {"x": {}}}).encode())
    assert str(error).startswith(f"{section}: not supported yet")


def test_tags_of_a_marble_are_refused_by_name():
    error = refusal(raw(Marbles={"frontend": {"Package": "shop", "TLS": ["web"]}}))
    assert str(error).startswith("Marbles.frontend.TLS: not supported yet")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (raw(Package={}), 'unknown key "Package"', 'did you mean "Packages"?'),
        (raw(Clients={}), 'unknown key "Clients"', ""),
        (raw(Packages={"a": {"SecurityVerson": 1}}), 'Packages.a: unknown key "SecurityVerson"', '"SecurityVersion"?'),
        (
            raw(Marbles={"frontend": {"Package": "shop", "Parameters": {"Environment": {}}}}),
            'Marbles.frontend.Parameters: unknown key "Environment"',
            "Env",
        ),
    ],
)
def test_unknown_keys_are_refused_with_path_and_the_nearest_known_one(text, message, hint):
    error = refusal(text)
    assert message in str(error)
    assert hint in error.hint


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b'{"Packages": {}, "Packages": {}}', '"Packages" stands here twice'),
        (b'{"Packages": {}, "packages": {}}', '"packages" stands here twice'),
        (b'{"Packages": {"a": {}, "a": {}}}', 'Packages: "a" stands here twice'),
        (b'{"Packages": {"a": {"Debug": true, "DEBUG": false}}}', 'Packages.a: "DEBUG" stands here twice'),
    ],
)
def test_duplicate_keys_are_refused(text, path):
    assert path in str(refusal(text))


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("3.0", "a number with fraction"),
        ("3e0", "a number with fraction"),
        ("1e999", "a number with fraction"),
        ('"3"', "a string"),
        ("true", "true"),
        ("-1", "-1"),
        ("18446744073709551616", "18446744073709551616"),
        ("1" * 3000, "3000 digits"),
    ],
)
def test_integers_are_integer_literals(value, got):
    error = refusal(f'{{"Packages": {{"a": {{"ProductID": {value}}}}}}}'.encode())
    assert "Packages.a.ProductID" in str(error)
    assert got in str(error.got)


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"Packages": []}, "Packages", "an object"),
        ({"Packages": {"a": 1}}, "Packages.a", "an object"),
        ({"Packages": {"a": None}}, "Packages.a", "an object"),
        ({"Packages": {"a": {"Debug": "yes"}}}, "Packages.a.Debug", "true or false"),
        ({"Packages": {"a": {"SignerID": 1}}}, "Packages.a.SignerID", "a string"),
        ({"Packages": {"a": {"AcceptedAdvisories": "x"}}}, "Packages.a.AcceptedAdvisories", "a list"),
        ({"Packages": {"a": {"AcceptedAdvisories": [1]}}}, "Packages.a.AcceptedAdvisories[0]", "a string"),
        ({"Marbles": {"a": {"Parameters": {"Argv": [None]}}}}, "Marbles.a.Parameters.Argv[0]", "a string"),
        (
            {"Marbles": {"a": {"Parameters": {"Files": {"/a/b": 1}}}}},
            'Marbles.a.Parameters.Files["/a/b"]',
            "an object",
        ),
    ],
)
def test_wrong_types_are_refused_with_their_path(changes, path, expected):
    error = refusal(raw(**changes))
    assert str(error).startswith(f"{path}: wrong type")
    assert error.expected == expected


def test_null_counts_as_absent():
    package = {"UniqueID": UNIQUE_ID, "ProductID": None, "SignerID": None, "AcceptedTCBStatuses": None, "Debug": None}
    manifest = load(Packages={"shop": package}, Marbles={"a": {"Package": "shop", "Parameters": {"Files": None}}})
    assert manifest.packages["shop"].product_id is None
    assert manifest.packages["shop"].accepted_tcb_statuses == ("SWHardeningNeeded",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "line 1, column 1: manifest is not JSON"),
        (b'{\n  "Packages": {,}\n}', "line 2, column 16: manifest is not JSON"),
        (b"{} {}", "line 1, column 4"),
        (b'{"a": "tab\t"}', "line 1, column 11"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"\xff\xfe{\x00", "not UTF-8"),
        (b'{"a": NaN}', "a value that JSON does not have: got NaN"),
        (b'{"a": -Infinity}', "got -Infinity"),
        (b'{"a": ' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"a": "\\ud800"}', "unknown key"),
        (b'{"\\ud800": 1}', "half of a surrogate pair"),
        (b'{"Packages": {"a": {"SignerID": "\\udc41"}}}', "Packages.a.SignerID: text has half of a surrogate pair"),
        (b"[]", "wrong type"),
        (b"null", "wrong type"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_a_document_is_refused(text, message):
    assert message in str(refusal(text))


def test_brackets_in_strings_do_not_nest():
    brackets = "[{" * MAX_NESTING + '\\"['
    manifest = load(Marbles={"a": {"Package": "shop", "Parameters": {"Env": {"X": brackets}}}})
    assert manifest.marbles["a"].parameters.env.keys() == {"X"}


def test_size_is_bounded():
    fitting = raw().ljust(MAX_MANIFEST_SIZE)
    assert load_manifest(fitting).raw == fitting
    assert "too large" in str(refusal(fitting + b" "))


def test_a_scan_of_an_endless_string_is_linear():
    refusal(b'{"a": "' + b'\\"' * ((MAX_MANIFEST_SIZE - 10) // 2))  # quadratic would run into the time limit


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=20,
)
_KEYS = """
    Packages Marbles Secrets TLS Config shop frontend key Package Parameters Files Env Argv Type Size Shared UserDefined
    Cert ValidFor UniqueID SignerID ProductID SecurityVersion Debug Data Encoding NoTemplates Subject DNSNames IsCA
    IPAddresses URIs NotAfter KeyUsage ExtKeyUsage MaxPathLen MaxPathLenZero
"""
known_keys = st.sampled_from(_KEYS.split())
known_values = st.sampled_from(
    ["shop", "symmetric-key", "cert-rsa", "cert-ecdsa", "plain", 128, 256, 2048, True, UNIQUE_ID]
) | st.sampled_from(["{{ hex .Secrets.key }}", "{{ pem .Secrets.key.Cert }}"])
near_manifests = st.recursive(
    known_values | st.none() | st.integers(-1, 600) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(known_keys, children, max_size=6),
    max_leaves=40,
)


@given(json_values | near_manifests)
def test_any_json_is_a_manifest_or_a_manifest_error(value):
    accepts_or_refuses(json.dumps(value).encode())


@given(near_manifests, near_manifests, near_manifests)
def test_any_sections_are_a_manifest_or_a_manifest_error(package, marble, secret):
    accepts_or_refuses(raw(Packages={"shop": package}, Marbles={"frontend": marble}, Secrets={"key": secret}))


@given(near_manifests)
def test_any_cert_is_a_manifest_or_a_manifest_error(cert):
    accepts_or_refuses(raw(Secrets={"key": {"Type": "cert-ecdsa", "Size": 256, "Cert": cert}}))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_error(data):
    refusal(data)


def accepts_or_refuses(text: bytes) -> None:
    try:
        outcome: Manifest | ManifestError = load_manifest(text)
    except ManifestError as error:
        outcome = error
    assert "\n" not in str(outcome)
