"""What the demo shows, as text."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from demo import screen
from demo.observation import Observation
from demo.outcome import Outcome
from demo.stages import Stage
from demo.topology import Topology

TOPOLOGY = Topology("127.0.77", Path("/state"), {})
THIEF = "bookthief.bookthief.cluster.local"
MESH = {
    "permissive": False,
    "error": None,
    "refusals": [
        {
            "source": THIEF,
            "destination": "bookstore/bookstore",
            "what": "connection",
            "layer": "L4",
            "rule": "deny-by-default",
            "count": 17,
        }
    ],
}
EVENTS = (
    {"denial": {"marbleType": "bookbuyer", "uuid": "1", "reason": "another SignerID"}},
    {"denial": {"marbleType": "bookbuyer", "uuid": "2", "reason": "yet another SignerID"}},
)
SERVICES = {
    "bookstore": {
        "ready": True,
        "counters": {"books_sold": 5},
        "refusals": [{"peer": "bookthief", "method": "/x/BuyBook", "rule": "deny-by-default", "count": 3}],
    }
}
THEFTS = [bookthief_pb2.Attempts(method="no certificate", tried=9, refused=9, last_refusal="certificate required")]


def shown(renderable) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(renderable)
    return console.file.getvalue()


def row(text: str, *words: str) -> str:
    return next(line for line in text.splitlines() if all(word in line for word in words))


def test_every_layer_says_whom_it_refused_and_why():
    text = shown(screen.dashboard(Observation(SERVICES, EVENTS, MESH), THEFTS, TOPOLOGY))
    assert "intended" in text
    assert "17" in row(text, THIEF, "mesh: sidecar of bookstore/bookstore (L4)", "rule deny-by-default")
    assert "2" in row(text, "bookbuyer", "attestation: coordinator", "yet another SignerID")
    assert "3" in row(text, "bookthief", "attested policy: bookstore", "/x/BuyBook: rule deny-by-default")
    assert "9" in row(text, "bookthief: no certificate", "certificate required")
    assert "http://127.0.77.1:8082" in text


def test_permissive_mode_and_a_broken_policy_are_loud():
    quiet = Observation(SERVICES, EVENTS, MESH)
    assert screen.warnings(quiet) == []
    loud = Observation(SERVICES, EVENTS, {**MESH, "permissive": True, "error": {"message": "services.yaml:3"}})
    text = shown(screen.dashboard(loud, THEFTS, TOPOLOGY))
    assert "PERMISSIVE MODE" in text.splitlines()[0]
    assert "services.yaml:3" in text


def test_without_a_coordinator_nobody_is_said_to_be_attested():
    text = shown(screen.dashboard(Observation(SERVICES, ()), THEFTS, TOPOLOGY, coordinator=False))
    assert "who is attested" not in text
    assert "coordinator" not in text
    assert "http://127.0.77.1:8080" in text


def test_the_table_of_outcomes_names_each_stage_once():
    told = [
        (Stage.PLAIN, [Outcome("a theft", "steals (intended)", "3 stolen", good=True)] * 2),
        (Stage.MESH, [Outcome("another", "refused (intended)", "stolen", good=False)]),
    ]
    text = shown(screen.outcomes(told))
    assert text.count("plain") == 1
    assert "ok" in row(text, "plain", "a theft", "3 stolen")
    assert "WRONG" in row(text, "mesh", "another")
