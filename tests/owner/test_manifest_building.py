"""Manifests put together from their parts, and a policy exchanged in one, judged by the coordinator's own rules."""

from __future__ import annotations

import copy
import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from confidential_bookstore.errors import ManifestError
from confidential_bookstore.owner.manifest_building import build_manifest
from confidential_bookstore.owner.policy_update import compiled, policy_in, to_bytes, with_policy
from confidential_bookstore.policy.smi.reading import folder_texts, read_texts
from coordinator.manifest import load_manifest
from coordinator.manifest.users import Action

MANIFESTS = Path(__file__).parents[2] / "deploy" / "manifests"
BUY = "/confidential_bookstore.api.bookstore.v1.BookstoreService/BuyBook"
PACKAGES = {
    name: {"SignerID": "ab" * 32, "ProductID": number, "SecurityVersion": 1, "Debug": False}
    for number, name in enumerate(("coordinator", "bookwarehouse", "bookstore", "bookbuyer", "bookthief"), 1)
}
# Every key that MarbleRun knows, where this project writes one.
MARBLERUN = {
    "Packages": {"Debug", "UniqueID", "SignerID", "ProductID", "SecurityVersion"},
    "Marbles": {"Package", "MaxActivations", "Parameters", "TLS", "DisableSecretBinding"},
    "Secrets": {"Type", "Size", "Shared", "UserDefined", "ValidFor", "Cert"},
}


@pytest.fixture
def marbles():
    return json.loads((MANIFESTS / "marbles.json").read_text())


@pytest.fixture
def texts():
    return folder_texts(MANIFESTS / "smi")


@pytest.fixture
def split(texts):
    variant = MANIFESTS / "smi-variants" / "traffic-split-50-50.yaml"
    return read_texts(texts | {variant.name: variant.read_text()})


def test_a_coordinator_takes_it(marbles, texts):
    manifest = load_manifest(build_manifest(marbles, read_texts(texts), PACKAGES))
    assert set(manifest.marbles) == set(marbles["Marbles"])
    assert set(manifest.packages) == {"bookwarehouse", "bookstore", "bookbuyer", "bookthief"}, "those that are used"
    assert manifest.secrets.keys() == marbles["Secrets"].keys()


def test_nothing_that_marblerun_does_not_know(marbles, split):
    document = json.loads(build_manifest(marbles, split, PACKAGES))
    assert set(document) == set(MARBLERUN)
    for section, keys in MARBLERUN.items():
        assert set().union(*document[section].values()) <= keys
    for marble in document["Marbles"].values():
        assert set(marble["Parameters"]) == {"Env"}
        for value in marble["Parameters"]["Env"].values():
            assert isinstance(value, str) or set(value) <= {"Data", "Encoding", "NoTemplates"}


def test_the_same_parts_give_the_same_bytes(marbles, texts):
    once = build_manifest(marbles, read_texts(texts), PACKAGES)
    backwards = {name: dict(reversed(section.items())) for name, section in reversed(marbles.items())}
    again = build_manifest(backwards, read_texts(dict(reversed(texts.items()))), dict(reversed(PACKAGES.items())))
    assert once == again
    assert "MARBLE_ACCESS_RULES" not in marbles["Marbles"]["bookstore"]["Parameters"]["Env"], (
        "the argument is as it was"
    )


def test_the_rules_of_each_marble(marbles, texts):
    policies = policy_in(json.loads(build_manifest(marbles, read_texts(texts), PACKAGES)))
    assert policies["bookstore"].rules.allow("bookbuyer", BUY).allowed
    assert not policies["bookstore"].rules.allow("bookthief", BUY).allowed
    assert not policies["bookbuyer"].rules.rules
    assert policies["bookbuyer"].splits.backends("bookstore") == {"bookstore": 1}


def test_a_pattern_is_no_template(marbles, texts):
    """`{{` in a path is text; a coordinator would else look for a secret there."""
    texts["more.yaml"] = (MANIFESTS / "smi-variants" / "traffic-access-v1-allow-bookthief.yaml").read_text()
    del texts["traffic-access-v1.yaml"]
    texts["bookstore-routes.yaml"] = texts["bookstore-routes.yaml"].replace(
        r"/confidential_bookstore\.api\.bookstore\.v1\.BookstoreService/BuyBook", "'/a{{.*'"
    )
    manifest = load_manifest(build_manifest(marbles, read_texts(texts), PACKAGES))
    content = manifest.marbles["bookstore"].parameters.env["MARBLE_ACCESS_RULES"].content
    assert isinstance(content, bytes)
    assert any("{{" in each["path"] for rule in json.loads(content) for each in rule["matches"])


def test_splits_are_told_to_who_calls(marbles, split):
    document = json.loads(build_manifest(marbles, split, PACKAGES))
    told = [
        name
        for name in document["Marbles"]
        if "MARBLE_TRAFFIC_SPLITS" in document["Marbles"][name]["Parameters"]["Env"]
    ]
    assert told == ["bookbuyer"]
    shares = policy_in(document)["bookbuyer"].splits.backends("bookstore")
    assert shares["bookstore"] == shares["bookstore-v2"] > 0


def test_users_may_update_it(marbles, texts):
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "owner")]), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    recovery = rsa.generate_private_key(65537, 2048).public_key()
    public = recovery.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    raw = build_manifest(marbles, read_texts(texts), PACKAGES, users={"owner": pem}, recovery_keys={"kim": public})
    manifest = load_manifest(raw)
    owner = manifest.users["owner"]
    assert manifest.may(owner, Action.UPDATE_MANIFEST)
    assert manifest.may(owner, Action.UPDATE_SECURITY_VERSION, manifest.packages)
    assert set(manifest.recovery_keys) == {"kim"}


def test_a_marble_that_the_registry_does_not_have(marbles, texts):
    marbles["Marbles"]["bookbinder"] = {"Package": "bookbuyer"}
    with pytest.raises(ManifestError, match="marble bookbinder is no service") as caught:
        build_manifest(marbles, read_texts(texts), PACKAGES)
    assert "bookbuyer" in str(caught.value.got)


def test_a_marble_that_only_the_registry_has(marbles, texts):
    del marbles["Marbles"]["bookthief"]
    with pytest.raises(ManifestError, match=r"marble bookthief of the registry \(services\.yaml:\d+: MeshService"):
        build_manifest(marbles, read_texts(texts), PACKAGES)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document["Marbles"]["bookstore"].pop("Package"), "Marbles.bookstore: names no package"),
        (lambda document: document["Marbles"].update(bookstore=[]), "Marbles.bookstore: names no package"),
        (lambda document: document["Marbles"]["bookstore"].update(Package="x"), "no signed enclave"),
        (lambda document: document.pop("Marbles"), "Marbles: wrong type"),
        (lambda document: document.update(Packages={"bookstore": {}}), "Packages.bookstore: it is there already"),
        (
            lambda document: document["Marbles"]["bookstore"]["Parameters"]["Env"].update(MARBLE_ACCESS_RULES="[]"),
            "comes from the policy's documents",
        ),
    ],
)
def test_what_cannot_be_built(marbles, texts, change, said):
    change(marbles)
    with pytest.raises(ManifestError, match=said):
        build_manifest(marbles, read_texts(texts), PACKAGES)


def test_another_policy_and_nothing_else(marbles, texts, split):
    before = json.loads(build_manifest(marbles, read_texts(texts), PACKAGES))
    kept = copy.deepcopy(before)
    after = with_policy(before, split)
    assert before == kept
    assert compiled(split)["bookbuyer"].differs_in(policy_in(before)["bookbuyer"]) == ("MARBLE_TRAFFIC_SPLITS",)
    assert after["Marbles"]["bookbuyer"]["Parameters"]["Env"].pop("MARBLE_TRAFFIC_SPLITS")
    assert after == before
    assert to_bytes(with_policy(with_policy(before, split), read_texts(texts))) == to_bytes(before), "and back"


def test_a_variable_that_is_not_text(marbles, texts):
    document = json.loads(build_manifest(marbles, read_texts(texts), PACKAGES))
    document["Marbles"]["bookstore"]["Parameters"]["Env"]["MARBLE_ACCESS_RULES"] = {
        "Data": "W10=",
        "Encoding": "base64",
    }
    with pytest.raises(ManifestError, match=r"Marbles\.bookstore\.Parameters\.Env\.MARBLE_ACCESS_RULES"):
        policy_in(document)
