"""Any text is documents, or an error that says where; and the policy of the bookstore is read as it is meant."""

from __future__ import annotations

import random

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import ConfigurationError, PolicyError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Account
from confidential_bookstore.policy.smi.reading import check_texts, folder_texts, read_folder, read_texts
from confidential_bookstore.policy.smi.resolving import sealed

BUYER, THIEF = Account("bookbuyer", "bookbuyer"), Account("bookthief", "bookthief")
STORE, COORDINATOR = Account("bookstore", "bookstore"), Account("coordinator", "marblerun")
BUY = "/confidential_bookstore.api.bookstore.v1.BookstoreService/BuyBook"
SALES = BUY.replace("BuyBook", "GetSales")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
names = st.sampled_from(
    ["apiVersion", "kind", "metadata", "spec", "name", "namespace", "matches", "sources", "rules", "backends", "weight"]
)
values = st.one_of(
    st.sampled_from(
        ["TrafficTarget", "HTTPRouteGroup", "TCPRoute", "TrafficSplit", "MeshConfig", "MeshService", "ServiceAccount"]
    ),
    st.sampled_from(
        ["access.smi-spec.io/v1alpha3", "specs.smi-spec.io/v1alpha4", "split.smi-spec.io/v1alpha4", "bookstore"]
    ),
)
trees = st.recursive(
    scalars | values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=20,
)


@given(st.text() | trees.map(yaml.safe_dump) | st.lists(trees, max_size=3).map(yaml.safe_dump_all))
def test_any_text_is_documents_or_errors(text):
    for error in check_texts({"a.yaml": text}):
        assert isinstance(error, PolicyError)
        assert error.where.startswith("a.yaml")


def test_mutated_policies_are_documents_or_errors(pytestconfig):
    texts = folder_texts(pytestconfig.rootpath / "deploy/manifests/smi")
    chance = random.Random(7)
    files = sorted(texts)
    for _ in range(400):
        file = chance.choice(files)
        text = texts[file]
        at, length = chance.randrange(len(text)), chance.choice([0, 1, 5, 40])
        cut = text[:at] + chance.choice(["", ":", "- ", "\n", "{", "'", "é", "0"]) + text[at + length :]
        for error in check_texts({**texts, file: cut}):
            assert error.where.partition(":")[0] in texts


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \xc3", b"x" * (1024 * 1024 + 1)])
def test_files_that_are_no_text(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(PolicyError, match=r"a\.yaml"):
        read_folder(tmp_path)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_folder(tmp_path / "no")


def test_only_policy_files_are_read(tmp_path):
    for name in ("a.txt", ".b.yaml", "README.md"):
        (tmp_path / name).write_text("kind: [")
    (tmp_path / "c.yaml").mkdir()
    assert read_folder(tmp_path).services == {}


def test_the_bookstores_policy(pytestconfig):
    documents = sealed(read_folder(pytestconfig.rootpath / "deploy/manifests/smi"))
    policy = Policy(documents)
    assert policy.allow(BUYER, STORE, 14001, "POST", BUY).rule == "bookstore/bookstore"
    assert policy.allow(BUYER, STORE, 14001).allowed
    assert not policy.allow(BUYER, STORE, 14001, "POST", SALES).allowed
    assert not policy.allow(THIEF, STORE, 14001, "POST", BUY).allowed
    assert not policy.allow(THIEF, STORE, 14001).allowed
    assert policy.allow(THIEF, COORDINATOR, 2001).allowed


def test_every_variant_can_stand_beside_or_in_place_of_a_file(pytestconfig):
    folder = pytestconfig.rootpath / "deploy/manifests"
    texts = folder_texts(folder / "smi")
    variants = folder_texts(folder / "smi-variants")
    assert len(variants) == 5
    for name, text in variants.items():
        replaced = name.replace("-allow-bookthief", "")
        documents = sealed(read_texts({**texts, replaced: text}))
        allowed = Policy(documents).allow(THIEF, STORE, 14001, "POST", BUY)
        assert allowed.allowed is (name in {"traffic-access-v1-allow-bookthief.yaml", "permissive.yaml"})
