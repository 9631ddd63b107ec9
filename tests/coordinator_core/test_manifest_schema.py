"""The JSON Schema: its export, and that it and `load_manifest` agree on what a schema can say."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from core_material import SIGNER_ID, UNIQUE_ID
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_material import full, recovery_pem, root_ca_base64, user_pem
from original_demo_manifest import ORIGINAL_DEMO

from confidential_bookstore.errors import ManifestError
from coordinator.manifest import load_manifest
from coordinator.manifest.certificates import CERT_FIELDS
from coordinator.manifest.loading import SECTIONS
from coordinator.manifest.packages import PACKAGE_FIELDS, TCB_STATUSES
from coordinator.manifest.schema import manifest_schema

SCHEMA = manifest_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def is_accepted(document: Any) -> bool:
    try:
        load_manifest(json.dumps(document).encode())
    except ManifestError:
        return False
    return True


def complaints(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_export_is_up_to_date(pytestconfig):
    exported = pytestconfig.rootpath / "docs" / "reference" / "manifest.schema.json"
    assert exported.read_text() == json.dumps(SCHEMA, indent=2) + "\n", (
        "run: python -m coordinator.manifest.schema > docs/reference/manifest.schema.json"
    )


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """All schemas of objects with fixed keys."""
    if isinstance(schema, dict):
        if "description" in schema and "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_every_field_is_described():
    for schema in objects(SCHEMA):
        assert schema["additionalProperties"] is False
        for name, field in schema["properties"].items():
            assert field["description"].endswith("."), name


def test_it_knows_the_same_fields():
    known = [set(schema["properties"]) for schema in objects(SCHEMA)]
    for fields in (SECTIONS, PACKAGE_FIELDS, CERT_FIELDS):
        assert set(fields) in known


@pytest.mark.parametrize("document", [full(), ORIGINAL_DEMO], ids=["full", "original"])
def test_complete_manifests_are_valid(document):
    assert complaints(document) == []


def maybe(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields, each of which may also be null."""
    return st.fixed_dictionaries({}, optional={name: value | st.none() for name, value in fields.items()})


def always(fixed: dict[str, Any], **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return maybe(**fields).map(lambda chosen: {**chosen, **fixed})


def each(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(strategies)


word = st.text("abcXYZ019-", min_size=1, max_size=5)
small = st.integers(0, 300)
octets = st.lists(st.integers(0, 255), max_size=3) | st.sampled_from(["", "AQID", "AQ=="])
oids = st.lists(st.sampled_from([[1, 2, 3], [2, 5, 29, 32, 0], [1, 3, 6, 1]]), unique_by=tuple, max_size=2)
uris = st.lists(
    st.sampled_from(["http://x", "urn:a:b", {"Scheme": "https", "Host": "a"}, {"Scheme": "urn", "Opaque": "a"}]),
    max_size=2,
)
networks = st.lists(
    st.sampled_from(["10.0.0.0/8", "::/0", {"IP": "10.0.0.1", "Mask": "/wAAAA=="}, {"IP": "::", "Mask": [0] * 16}]),
    max_size=2,
)
domains = st.lists(st.sampled_from(["example.com", ".example.com"]), max_size=2)

certificates = maybe(
    Subject=maybe(
        Organization=st.lists(word, max_size=1),
        Country=st.lists(st.just("DE"), max_size=1),
        CommonName=word,
        SerialNumber=word,
        ExtraNames=st.lists(each(Type=st.just([2, 5, 4, 42]), Value=word), max_size=1),
    ),
    DNSNames=st.lists(word, max_size=2),
    EmailAddresses=st.lists(st.just("a@b"), max_size=1),
    IPAddresses=st.lists(st.sampled_from(["10.0.0.1", "::1"]), max_size=2),
    URIs=uris,
    KeyUsage=st.integers(0, 511).filter(lambda bits: not bits & 384 or bits & 16),
    ExtKeyUsage=st.lists(st.integers(0, 13), unique=True),
    UnknownExtKeyUsage=oids,
    BasicConstraintsValid=st.booleans(),
    SubjectKeyId=octets,
    OCSPServer=uris,
    IssuingCertificateURL=uris,
    CRLDistributionPoints=uris,
    PolicyIdentifiers=oids,
    PermittedDNSDomains=domains,
    ExcludedDNSDomains=domains,
    PermittedIPRanges=networks,
    ExcludedIPRanges=networks,
    PermittedEmailAddresses=st.just(["a@b", "b"]),
    ExcludedURIDomains=domains,
    PermittedDNSDomainsCritical=st.booleans(),
    SignatureAlgorithm=st.sampled_from([0, 10, 11, 12]),
)
certificate_secrets = {
    "Shared": st.booleans(),
    "UserDefined": st.booleans(),
    "ValidFor": small,
    "Cert": certificates,
}
secrets = st.one_of(
    always(
        {"Type": "symmetric-key", "Size": 128}, Shared=st.booleans(), UserDefined=st.booleans(), ValidFor=st.just(0)
    ),
    always({"Type": "plain", "UserDefined": True}, Size=st.just(0), Cert=st.just({})),
    always({"Type": "cert-rsa", "Size": 2048}, **certificate_secrets),
    always({"Type": "cert-ecdsa", "Size": 521}, **certificate_secrets),
    always({"Type": "cert-ed25519"}, Size=st.just(0), **certificate_secrets),
    always({"Type": "cert-ed25519", "Cert": {"NotAfter": "2040-01-01T00:00:00Z"}}),
    always({"Type": "cert-ed25519", "Cert": {"IsCA": True, "MaxPathLen": 2}}),
)
policy = {
    "AcceptedTCBStatuses": st.lists(st.sampled_from(sorted(TCB_STATUSES)), max_size=2),
    "AcceptedAdvisories": st.lists(word, max_size=2),
}
packages = st.one_of(
    always({"UniqueID": UNIQUE_ID}, SignerID=st.just(""), **policy),
    always({"UniqueID": "AB" * 48}, RTMRs=st.lists(st.sampled_from(["", "cd" * 48]), max_size=4), **policy),
    always({"SignerID": SIGNER_ID, "ProductID": 0, "SecurityVersion": 2**64 - 1}, UniqueID=st.just(""), **policy),
    always({"Debug": True}, SignerID=st.just(SIGNER_ID), SecurityVersion=small),
)
contents = st.one_of(
    word,
    maybe(Data=word, Encoding=st.sampled_from(["", "String"]), NoTemplates=st.booleans()),
    always({"Data": "aGk=", "Encoding": "BASE64"}),
    always({"Data": "6869", "Encoding": "hex"}, NoTemplates=st.booleans()),
)
marbles = always(
    {"Package": "shop"},
    MaxActivations=small,
    DisableSecretBinding=st.booleans(),
    TLS=st.lists(st.just("web")),
    Parameters=maybe(
        Files=st.dictionaries(word, contents, max_size=2),
        Env=st.dictionaries(word, contents, max_size=2),
        Argv=st.lists(word, max_size=2),
    ),
)
roles = st.one_of(
    always({"ResourceType": "Manifest"}, Actions=st.just(["updateManifest"]), ResourceNames=st.just([])),
    always({"ResourceType": "Packages"}, Actions=st.just(["UpdateSecurityVersion"]), ResourceNames=st.just(["shop"])),
    always({"ResourceType": "Secrets"}, Actions=st.lists(st.sampled_from(["ReadSecret", "WRITESECRET"]))),
)
ports = st.integers(1, 65535).map(str)
tags = maybe(
    Outgoing=st.lists(each(Addr=word, Port=ports), max_size=2),
    Incoming=st.lists(
        each(Port=ports) | each(Port=ports, Cert=st.just("tls"), DisableClientAuth=st.just(True)), max_size=2
    ),
)
infrastructures = maybe(
    CPUSVN=st.sampled_from([list(range(16)), [], "AAECAwQFBgcICQoLDA0ODw=="]),
    QESVN=small,
    PCESVN=small,
    RootCA=st.sampled_from([root_ca_base64(Encoding.PEM), root_ca_base64(Encoding.DER), ""]),
)
configs = maybe(
    SealMode=st.sampled_from(["", "ProductKey", "UniqueKey", "Disabled"]),
    FeatureGates=st.lists(st.sampled_from(["signQuoteEndpoint", "MonotonicCounter"])),
    UpdateThreshold=st.integers(0, 1),
    RecoveryThreshold=st.sampled_from([0, 2]),
    RotateRootSecret=st.booleans(),
)
manifests = st.fixed_dictionaries(
    {
        "Packages": each(shop=packages),
        "Marbles": st.dictionaries(word, marbles, min_size=1, max_size=2),
        "TLS": each(web=tags),
        "Secrets": each(s=secrets, tls=st.just({"Type": "cert-ed25519"})),
        "RecoveryKeys": st.just({name: recovery_pem(name) for name in ("ada", "bob")}),
        "Users": st.just({"ada": {"Certificate": user_pem("ada"), "Roles": ["owner"]}}),
        "Roles": each(owner=st.just({"ResourceType": "Manifest", "Actions": ["UpdateManifest"]}), other=roles),
    },
    optional={"Infrastructures": st.dictionaries(word, infrastructures, max_size=1) | st.none(), "Config": configs},
)


@given(manifests)
@settings(max_examples=200)
def test_what_is_accepted_is_valid(document):
    load_manifest(json.dumps(document).encode())
    assert complaints(document) == []


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, member in value.items():
            yield from places(member, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


wrong_values = st.sampled_from(
    [None, True, False, -1, 0, 1, 7, 2**64, 1.5, "", "x", "shop", "\0", [], [1], ["x"], [None], {}, {"x": 1}, {"": {}}]
)


@given(manifests, st.data())
@settings(max_examples=500)
def test_what_is_invalid_is_refused(document, data):
    """One value is replaced, one key added or one member removed: if the schema minds, the coordinator does."""
    mutated = copy.deepcopy(document)
    path = data.draw(st.sampled_from([path for path in places(document) if path]))
    parent = mutated
    for step in path[:-1]:
        parent = parent[step]
    match data.draw(st.sampled_from(["replace", "add", "remove"])):
        case "replace":
            parent[path[-1]] = data.draw(wrong_values)
        case "remove":
            del parent[path[-1]]
        case "add" if isinstance(parent, dict):
            parent[data.draw(word)] = data.draw(wrong_values)
        case "add":
            parent.append(data.draw(wrong_values))
    if found := complaints(mutated):
        assert not is_accepted(mutated), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("Packages",), {}),
        (("Packages", "shop", "SignerID"), "xyz"),
        (("Packages", "shop", "ProductID"), None),
        (("Packages", "shop", "UniqueID"), UNIQUE_ID),
        (("Packages", "shop", "AcceptedTCBStatuses"), ["Fine"]),
        (("Packages", "shop", "RTMRs"), [""] * 5),
        (("Packages", "shop", "Colour"), "red"),
        (("Marbles", "a b"), {"Package": "shop"}),
        (("Marbles", "frontend", "Package"), None),
        (("Marbles", "frontend", "Parameters", "Env", "A=B"), "x"),
        (("Marbles", "frontend", "Parameters", "Files"), {"/f": {"Encoding": "rot13"}}),
        (("Secrets", "key", "Type"), "password"),
        (("Secrets", "key", "Size"), 12),
        (("Secrets", "key", "ValidFor"), 1),
        (("Secrets", "key", "Cert"), {"IsCA": True}),
        (("Secrets", "plain"), {"Type": "plain"}),
        (("Secrets", "tls", "Size"), 128),
        (("Secrets", "tls", "Cert"), {"KeyUsage": 512}),
        (("Secrets", "tls", "Cert"), {"SignatureAlgorithm": 4}),
        (("Secrets", "tls", "Cert"), {"Subject": {"ExtraNames": [{"Type": [2, 5, 4, 3]}]}}),
        (("Users", "ada", "Certificate"), "x"),
        (("Roles", "owner", "ResourceType"), "Everything"),
        (("Roles", "owner", "Actions"), ["ReadSecret"]),
        (("Roles", "owner", "ResourceNames"), ["x"]),
        (("RecoveryKeys", "ada"), "x"),
        (("TLS", "web", "Incoming"), [{"Port": "80", "Cert": "tls"}]),
        (("TLS", "web", "Incoming"), [{"Port": "80", "DisableClientAuth": True}]),
        (("TLS", "web", "Outgoing"), [{"Port": "80"}]),
        (("Config", "SealMode"), "productkey"),
        (("Config", "FeatureGates"), ["AzureHSMSealing"]),
        (("Config", "RecoveryThreshold"), 1),
        (("Infrastructures", "cloud", "QESVN"), 65536),
        (("Infrastructures", "cloud", "CPUSVN"), [256]),
    ],
)
def test_what_the_schema_can_say(path, value):
    document = copy.deepcopy(full())
    parent: Any = document
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    assert complaints(document)
    assert not is_accepted(document)
