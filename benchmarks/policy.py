"""How long the policy takes to answer: `python benchmarks/policy.py`.

A thousand TrafficTargets, once of a thousand pairs of accounts and once all of the same pair, each with a path of its
own. What counts is the median of several rounds, in microseconds a question.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Account, Documents, HttpRule, Origin, Target, TcpRule

TARGETS = 1000
GOAL_MICROSECONDS = 20.0
STORE = Account("bookstore", "bookstore")
BUYER = Account("bookbuyer", "bookbuyer")
_ORIGIN = Origin("access.yaml", 1, "TrafficTarget")


def measure(questions: int = 20_000, rounds: int = 7) -> dict[str, Any]:
    """Microseconds a question by what is asked, and how long it takes to make the index, in milliseconds."""
    pairs = [(Account(f"buyer-{index}", "shop"), Account(f"store-{index}", "shop")) for index in range(TARGETS)]
    of_pairs, of_one = Documents({}, _targets(pairs)), Documents({}, _targets([(BUYER, STORE)] * TARGETS))
    claimed = Documents({}, _targets([(BUYER, STORE)] * TARGETS, headers=(("client-app", Pattern("bookbuyer")),)))
    many, one, with_headers = Policy(of_pairs), Policy(of_one), Policy(claimed)
    numbers = itertools.cycle(range(TARGETS))
    fresh = itertools.count()

    def ask(policy: Policy, path: str, headers: Mapping[str, str] = {}) -> bool:
        return policy.allow(BUYER, STORE, 14001, "POST", path, headers).allowed

    def of_some_pair() -> bool:
        index = next(numbers)
        return many.allow(*pairs[index], 14001, "POST", f"/shop.v1.Store/Method{index}").allowed

    asked: dict[str, Callable[[], bool]] = {
        "thousand pairs, allowed": of_some_pair,
        "one pair, allowed": lambda: ask(one, f"/shop.v1.Store/Method{next(numbers)}"),
        "one pair, allowed by a header": lambda: ask(
            with_headers, f"/shop.v1.Store/Method{next(numbers)}", {"client-app": "bookbuyer"}
        ),
        "one pair, a path never asked before": lambda: ask(one, f"/shop.v1.Store/Other{next(fresh)}"),
        "one pair, a path to normalise": lambda: ask(one, f"/a/../shop.v1.Store//Method{next(fresh) % TARGETS}"),
        "one pair, a connection": lambda: one.allow(BUYER, STORE, 20_000 + next(numbers)).allowed,
        "no such pair": lambda: one.allow(STORE, BUYER, 14001, "POST", "/shop.v1.Store/Method1").allowed,
    }
    return {
        "goal": GOAL_MICROSECONDS,
        "targets": TARGETS,
        "index": round(_milliseconds(lambda: Policy(of_pairs)), 2),
        "microseconds": {name: _microseconds(question, questions, rounds) for name, question in asked.items()},
    }


def _targets(pairs: list[tuple[Account, Account]], headers: tuple[tuple[str, Pattern], ...] = ()) -> dict[str, Target]:
    targets: dict[str, Target] = {}
    for index, (source, destination) in enumerate(pairs):
        path = Pattern(rf"/shop\.v1\.[A-Z][a-z]*/Method{index}")
        match = Match("method", path, frozenset({"POST"}), headers)
        rules = (HttpRule("shop/group", (match,), _ORIGIN), TcpRule("shop/route", frozenset({20_000 + index}), _ORIGIN))
        name = f"shop/target-{index:04}"
        targets[name] = Target(name, destination, (source,), rules, _ORIGIN)
    return targets


def _microseconds(question: Callable[[], bool], questions: int, rounds: int) -> dict[str, float]:
    for _ in range(TARGETS):  # what is made on the first question is made now
        question()
    found: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(questions):
            question()
        found.append((time.perf_counter() - started) / questions * 1e6)
    return {"median": round(statistics.median(found), 2), "worst": round(max(found), 2)}


def _milliseconds(make: Callable[[], object]) -> float:
    started = time.perf_counter()
    make()
    return (time.perf_counter() - started) * 1e3


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
