"""What the inside of marbles gets of the policy: of our own documents, and of random ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from policy_strategies import SERVICES, documents

from confidential_bookstore.policy.access import DENIED
from confidential_bookstore.policy.smi.marble_rules import access_rules, traffic_splits
from confidential_bookstore.policy.smi.model import Account, MeshConfig, Protocol, Service
from confidential_bookstore.policy.smi.reading import folder_texts, read_texts
from confidential_bookstore.policy.splits import TrafficSplits

MANIFESTS = Path(__file__).parents[2] / "deploy/manifests"
OURS = folder_texts(MANIFESTS / "smi")
VARIANTS = folder_texts(MANIFESTS / "smi-variants")
STORE = "/confidential_bookstore.api.bookstore.v1.BookstoreService"
WAREHOUSE = "/confidential_bookstore.api.bookwarehouse.v1.BookwarehouseService"


def test_our_own_policy_inside_marbles():
    rules = access_rules(read_texts(OURS))
    assert set(rules) == {"bookbuyer", "bookthief", "bookstore", "bookstore-v2", "bookwarehouse"}
    for seller in ("bookstore", "bookstore-v2"):
        assert rules[seller].allow("bookbuyer", f"{STORE}/BuyBook").rule == f"bookstore/{seller}"
        assert rules[seller].allow("bookbuyer", f"{STORE}/GetSales") == DENIED
        assert rules[seller].allow("bookthief", f"{STORE}/BuyBook") == DENIED
        assert rules["bookwarehouse"].allow(seller, f"{WAREHOUSE}/Sell").allowed
    assert rules["bookwarehouse"].allow("bookbuyer", f"{WAREHOUSE}/Sell") == DENIED
    assert rules["bookbuyer"].rules == rules["bookthief"].rules == ()


def test_the_variants_inside_marbles():
    name = "traffic-access-v1-allow-bookthief.yaml"
    rules = access_rules(read_texts({**OURS, "traffic-access-v1.yaml": VARIANTS[name]}))
    assert rules["bookstore"].allow("bookthief", f"{STORE}/BuyBook").allowed
    assert rules["bookstore-v2"].allow("bookthief", f"{STORE}/BuyBook") == DENIED
    permissive = access_rules(read_texts({**OURS, "permissive.yaml": VARIANTS["permissive.yaml"]}))
    assert permissive["bookstore"].allow("bookthief", f"{STORE}/BuyBook") == DENIED


def test_our_own_splits():
    assert traffic_splits(read_texts(OURS)) == {}
    for name, weights in (
        ("v1", {"bookstore": 100, "bookstore-v2": 0}),
        ("50-50", {"bookstore": 50, "bookstore-v2": 50}),
        ("v2", {"bookstore": 0, "bookstore-v2": 100}),
    ):
        found = traffic_splits(read_texts({**OURS, "split.yaml": VARIANTS[f"traffic-split-{name}.yaml"]}))
        assert found == {"bookbuyer": TrafficSplits({"bookstore": weights})}


@settings(max_examples=50, deadline=None)
@given(documents())
def test_splits_are_for_who_may_call(found):
    given_splits = traffic_splits(found)
    for caller, splits in given_splits.items():
        assert TrafficSplits.from_json(splits.to_json()) == splits
        for root, split in found.splits.items():
            names = {root, *(backend.service for backend in split.backends)}
            accounts = {SERVICES[name].account for name in names}
            sources = {
                source.name
                for target in found.targets.values()
                if target.destination in accounts
                for source in target.sources
            }
            assert caller in sources
            assert not split.matches
            expected = {SERVICES[backend.service].marble: backend.weight for backend in split.backends}
            assert splits.backends(SERVICES[root].marble) == expected


@settings(max_examples=50, deadline=None)
@given(documents())
def test_what_no_marble_runs_as_has_no_rules(found):
    plain = Service("plain", "plain", Account("bookthief", "bookthief"), 1, Protocol.GRPC)
    services = {key: each for key, each in found.services.items() if each.marble != "bookthief"} | {plain.key: plain}
    changed = access_rules(replace(found, services=services, config=MeshConfig(permissive=True)))
    assert "bookthief" not in changed
    assert not any("bookthief" in rule.sources for rules in changed.values() for rule in rules.rules)
