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
from coordinator.manifest.fields import MOST_NOTES


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


SECTIONS = ["Infrastructures", "Secrets", "Users", "Roles", "RecoveryKeys", "TLS", "Config"]


@pytest.mark.parametrize("empty", [{}, None])
@pytest.mark.parametrize("section", SECTIONS)
def test_empty_sections_are_as_good_as_absent_ones(section, empty):
    text = json.dumps(document() | {section: empty}).encode()
    assert load_manifest(text).marbles.keys() == {"frontend"}


@pytest.mark.parametrize("wrong", [[], "", 0, False])
@pytest.mark.parametrize("section", ["Packages", "Marbles", *SECTIONS])
def test_sections_are_objects(section, wrong):
    assert str(refusal(raw(**{section: wrong}))).startswith(f"{section}: wrong type")


class TestTolerance:
    """Keys that are unknown or stand twice."""

    def tolerate(self, text: bytes) -> Manifest:
        refusal(text)
        return load_manifest(text, tolerant=True)

    def test_unknown_keys_are_warnings(self):
        manifest = self.tolerate(raw(Packages={"shop": {"UniqueID": UNIQUE_ID, "SecurityVerson": 1}}, Clients={}))
        assert 'Packages.shop: unknown key "SecurityVerson" (did you mean "SecurityVersion"?)' in manifest.warnings
        assert any(warning.startswith('unknown key "Clients"') for warning in manifest.warnings)

    def test_the_last_value_counts(self):
        text = b"""{
            "Packages": {"shop": {"UniqueID": "%s"}, "shop": {"UniqueID": "%s"}},
            "Marbles": {"a": {"Package": "shop", "MaxActivations": 1, "maxactivations": 2, "MAXACTIVATIONS": null}}
        }""" % (b"11" * 32, b"22" * 32)
        manifest = self.tolerate(text)
        assert manifest.packages["shop"].unique_id == "22" * 32
        assert manifest.marbles["a"].max_activations == 2  # null is no value
        assert manifest.warnings[:3] == (
            'Packages: "shop" stands here twice',
            'Marbles.a: "maxactivations" stands here twice: got "MaxActivations" and "maxactivations"',
            'Marbles.a: "MAXACTIVATIONS" stands here twice: got "maxactivations" and "MAXACTIVATIONS"',
        )

    def test_fields_that_marblerun_overwrites_are_warnings(self):
        secrets = {
            "s": {"Type": "cert-ed25519", "Cert": {"NotBefore": "2020-01-01T00:00:00Z", "Subject": {"Names": [1]}}}
        }
        warnings = self.tolerate(raw(Secrets=secrets)).warnings
        assert "Secrets.s.Cert.NotBefore: has no effect (leave it out)" in warnings
        assert "Secrets.s.Cert.Subject.Names: has no effect (leave it out)" in warnings

    def test_it_is_about_keys_only(self):
        for text in (raw(Marbles={"a": {"Package": 1}}), raw(Marbles={}), b"{} {}"):
            with pytest.raises(ManifestError):
                load_manifest(text, tolerant=True)

    def test_notes_are_bounded(self):
        manifest = self.tolerate(raw(**{f"Key{number}": {} for number in range(50_000)}))
        assert len([warning for warning in manifest.warnings if "unknown key" in warning]) == MOST_NOTES


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
    IPAddresses URIs NotAfter KeyUsage ExtKeyUsage MaxPathLen MaxPathLenZero ExtraNames Value SubjectKeyId
    UnknownExtKeyUsage PolicyIdentifiers PermittedIPRanges ExcludedDNSDomains IP Mask SignatureAlgorithm OCSPServer
    Scheme Infrastructures CPUSVN QESVN RootCA Users Certificate Roles ResourceType ResourceNames Actions RecoveryKeys
    Outgoing Incoming Addr Port DisableClientAuth SealMode FeatureGates UpdateThreshold RecoveryThreshold RTMRs
"""
known_keys = st.sampled_from(_KEYS.split())
known_values = st.sampled_from(
    ["shop", "symmetric-key", "cert-rsa", "cert-ecdsa", "plain", 128, 256, 2048, True, UNIQUE_ID, "443", "10.0.0.0/8"]
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


@given(
    st.sampled_from([*SECTIONS, "Packages", "Marbles"]), near_manifests | st.dictionaries(st.just("x"), near_manifests)
)
def test_any_section_is_a_manifest_or_a_manifest_error(section, value):
    accepts_or_refuses(raw(**{section: value}))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_error(data):
    refusal(data)


def accepts_or_refuses(text: bytes) -> None:
    for tolerant in (False, True):
        try:
            outcome: Manifest | ManifestError = load_manifest(text, tolerant=tolerant)
        except ManifestError as error:
            outcome = error
        assert "\n" not in str(outcome)
