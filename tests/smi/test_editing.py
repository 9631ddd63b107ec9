"""Edits of policy files change exactly what they say, and nothing else in the text."""

from __future__ import annotations

import itertools

import pytest

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.smi import editing
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Account, Documents
from confidential_bookstore.policy.smi.reading import folder_texts, read_texts

BUY = "/confidential_bookstore.api.bookstore.v1.BookstoreService/BuyBook"
SELL = "/confidential_bookstore.api.bookwarehouse.v1.BookwarehouseService/SellBooks"
PATHS = (BUY, BUY.replace("BuyBook", "GetSales"), SELL)


@pytest.fixture(scope="module")
def texts(pytestconfig) -> dict[str, str]:
    return folder_texts(pytestconfig.rootpath / "deploy/manifests/smi")


def applied(texts, changes) -> dict[str, str]:
    """The texts after changes; None takes a file away."""
    return {name: text for name, text in {**texts, **changes}.items() if text is not None}


def accounts(documents: Documents) -> list[Account]:
    return sorted({service.account for service in documents.services.values()})


def answers(texts) -> set[tuple[Account, Account, str | None]]:
    """All that is allowed."""
    documents = read_texts(texts)
    policy = Policy(documents)
    ports = {service.account: service.port for service in documents.services.values()}
    return {
        (source, destination, path)
        for source, destination in itertools.permutations(accounts(documents), 2)
        for path in (None, *PATHS)
        if policy.allow(source, destination, ports[destination], None if path is None else "POST", path or "").allowed
    }


def offered(texts, account: Account) -> list[str]:
    """Those of the paths that a service of this account has."""
    services = [each for each in read_texts(texts).services.values() if each.account == account]
    return [
        path for path in PATHS if any(path.startswith(f"/{name}/") for each in services for name in each.grpc_services)
    ]


def pairs(texts):
    return list(itertools.permutations(accounts(read_texts(texts)), 2))


def test_allow_adds_exactly_one_method_or_all(texts):
    before = answers(texts)
    coordinator = Account("coordinator", "marblerun")
    for source, destination in pairs(texts):
        for path in (None,) if destination == coordinator else (None, BUY):
            after = answers(applied(texts, editing.allow(texts, source, destination, path)))
            added = {(source, destination, None)}
            if destination != coordinator:  # speaks no HTTP
                added |= {(source, destination, each) for each in ((path,) if path else offered(texts, destination))}
            assert after == before | added


def test_deny_takes_away_exactly_that_pair(texts):
    permissive = texts
    for source, destination in pairs(texts):
        permissive = applied(permissive, editing.allow(permissive, source, destination, None))
    everything = answers(permissive)
    for source, destination in pairs(texts):
        after = answers(applied(permissive, editing.deny(permissive, source, destination)))
        assert after == {each for each in everything if each[:2] != (source, destination)}


def test_what_is_allowed_already_changes_nothing(texts):
    buyer, store = Account("bookbuyer", "bookbuyer"), Account("bookstore", "bookstore")
    assert editing.allow(texts, buyer, store, BUY) == {}
    assert editing.deny(texts, Account("bookthief", "bookthief"), store) == {}
    assert editing.permissive(texts, False) == {}


def test_allow_and_deny_leave_no_trace(texts):
    thief, store = Account("bookthief", "bookthief"), Account("bookstore", "bookstore")
    changed = applied(texts, editing.allow(texts, thief, store, None))
    assert set(changed) - set(texts) == {"cbs-allow.yaml"}
    assert applied(changed, editing.deny(changed, thief, store)) == texts


def test_other_documents_and_comments_stay_byte_for_byte(texts):
    buyer, store = Account("bookbuyer", "bookbuyer"), Account("bookstore", "bookstore")
    thief = Account("bookthief", "bookthief")
    both = texts["traffic-access-v1.yaml"].replace(
        "  rules:", "  - {kind: ServiceAccount, name: bookthief, namespace: bookthief}\n  rules:"
    )
    first, second = "# first\n" + texts["bookstore-routes.yaml"], "\n# second, whose head stays\n" + both
    third = " \n# third\n" + texts["bookwarehouse-access.yaml"].replace("---\n", "--- \n", 1)
    odd = {**texts, "traffic-access-v1.yaml": f"{first}---{second}---{third}"}
    del odd["bookstore-routes.yaml"], odd["bookwarehouse-access.yaml"]
    changes = editing.deny(odd, thief, store)
    assert list(changes) == ["traffic-access-v1.yaml"]
    text = changes["traffic-access-v1.yaml"]
    assert text.startswith(f"{first}---\n# second, whose head stays\n")
    assert text.endswith(f"---{third}")
    assert read_texts({**odd, **changes}).targets["bookstore/bookstore"].sources == (buyer,)


def test_split_is_added_and_changed(texts):
    root, v1, v2 = "bookstore/bookstore", "bookstore/bookstore-v1", "bookstore/bookstore-v2"
    changed = applied(texts, editing.split(texts, root, {v1: 100, v2: 0}))
    changed = applied(changed, editing.split(changed, root, {v1: 30, v2: 70}))
    split = read_texts(changed).splits[root]
    assert {each.service: each.weight for each in split.backends} == {v1: 30, v2: 70}
    with pytest.raises(PolicyError, match="all weights are 0"):
        editing.split(changed, root, {v1: 0, v2: 0})


def test_permissive_mode_is_switched(texts):
    on = applied(texts, editing.permissive(texts, True))
    assert read_texts(on).config.permissive
    off = applied(on, editing.permissive(on, False))
    assert not read_texts(off).config.permissive


def test_a_broken_policy_is_not_edited(texts):
    broken = {**texts, "z.yaml": "kind: ["}
    for edit in (
        lambda: editing.permissive(broken, True),
        lambda: editing.deny(broken, Account("a", "b"), Account("c", "d")),
    ):
        with pytest.raises(PolicyError, match=r"z\.yaml"):
            edit()
