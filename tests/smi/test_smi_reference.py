"""The reference of the documents: its examples are read, its limits and its errors are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from confidential_bookstore.policy.pattern import MAXIMUM_PROGRAM_SIZE
from confidential_bookstore.policy.smi import documents, editing
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Account
from confidential_bookstore.policy.smi.reading import API_VERSIONS, check_texts, folder_texts, read_texts
from confidential_bookstore.policy.smi.resolving import MOST_ERRORS, sealed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/smi.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
SOURCES = "".join(path.read_text() for path in (ROOT / "confidential_bookstore/policy/smi").glob("*.py"))


def test_the_examples_are_one_policy():
    read = read_texts({f"{index}.yaml": text for index, text in enumerate(EXAMPLES)})
    sealed(read)
    assert len(EXAMPLES) == 5
    assert len(read.services) == 4
    assert list(read.splits) == ["bookstore/bookstore"]


def test_the_first_example_alone_does_what_it_says():
    policy = Policy(read_texts({"a.yaml": EXAMPLES[0]}))
    buyer, store = (Account(name, name) for name in ("bookbuyer", "bookstore"))
    service = "/confidential_bookstore.api.bookstore.v1.BookstoreService"
    allowed = {
        name: policy.allow(buyer, store, 14001, "POST", f"{service}/{name}").allowed
        for name in ("ListBooks", "GetBook", "BuyBook", "GetSales")
    }
    assert allowed == {"ListBooks": True, "GetBook": True, "BuyBook": True, "GetSales": False}
    assert policy.allow(buyer, store, 14001).allowed


def test_every_kind_and_version_is_there():
    for kind, versions in API_VERSIONS.items():
        section = PAGE.partition(f"### {kind}\n")[2].partition("\n### ")[0]
        assert all(version.rpartition("/")[2] in section for version in versions)
        assert versions[0].rpartition("/")[0] in section


def test_limits():
    assert documents.MAXIMUM_BYTES == 1024 * 1024
    assert f"{documents.MAXIMUM_DOCUMENTS:,} documents in all" in PAGE
    assert f"{documents._MAXIMUM_DEPTH} levels" in PAGE
    assert f"at most {MAXIMUM_PROGRAM_SIZE:,} steps" in PAGE
    assert MOST_ERRORS == 100
    for name in (editing.ALLOW_FILE, editing.SPLIT_FILE, editing.CONFIG_FILE):
        assert f"`{name}`" in PAGE


def test_the_error_that_is_shown():
    texts = folder_texts(ROOT / "deploy/manifests/smi")
    file = "traffic-access-v1.yaml"
    [error] = check_texts({**texts, file: texts[file].replace("bookstore-service-routes", "bookstore-routes")})
    shown = error.diagnostics().replace("\n", "\n    ")
    assert shown in PAGE


ERRORS = re.findall(r"`([^`]+)`", "\n".join(re.findall(r"^\| (`.*?) \|", PAGE.partition("## Errors")[2], re.MULTILINE)))


@pytest.mark.parametrize("words", ERRORS)
def test_every_error_of_the_page_is_one_of_the_code(words):
    assert words in SOURCES


def test_every_error_of_the_code_is_on_the_page():
    """Of reading; `editing` has others, which commands show."""
    reading = SOURCES.replace((ROOT / "confidential_bookstore/policy/smi/editing.py").read_text(), "")
    said = re.findall(r'\.error\(\s*f?"([^"]+)"', reading)
    said += re.findall(r'PolicyError\(\s*[^,]+,\s*"[^"]*",\s*f?"([^"]+)"', reading)
    assert len(said) > 30
    for words in said:
        pieces = [piece.strip(" :") for piece in re.split(r"\{[^}]*\}", words) if piece.strip(" :")]
        assert any(piece in PAGE or any(error in piece for error in ERRORS) for piece in pieces), words
