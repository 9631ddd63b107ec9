"""The story ends badly when it should: no theft that succeeds, and no silence, may look like a refusal."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from confidential_bookstore.errors import EnclaveError, MeasurementMismatch
from demo import attacks, attested_thief
from demo.door import NO_CERTIFICATE
from demo.observation import Observation
from demo.outcome import Outcome
from demo.stories import confidential, mesh, trading
from demo.topology import MARBLES
from services.bookthief.methods import Refused

LINE = b"E0000 Handshake failed ... error:100000c0:SSL routines:OPENSSL_internal:%s\n"


@dataclasses.dataclass(frozen=True)
class Theft:
    """Ends as it is told, after `meanwhile` has happened at the store."""

    ending: int | Exception
    meanwhile: Callable[[], object] = lambda: None
    name: str = "test"

    async def steal(self) -> int:
        self.meanwhile()
        if isinstance(self.ending, Exception):
            raise self.ending
        return self.ending


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(attacks, "_LOG_SECONDS", 0.2)
    monkeypatch.setattr(attacks, "_LOOK_SECONDS", 0.05)
    path = tmp_path / "bookstore.log"
    path.write_bytes(LINE % NO_CERTIFICATE.encode())  # of somebody who came earlier
    return path


def told_by_the_store(log: Path, reason: str) -> Callable[[], object]:
    def write() -> None:
        with log.open("ab") as file:
            file.write(LINE % reason.encode())

    return write


async def steal(log: Path, theft: Theft) -> attacks.Outcome:
    return await attacks._steal("a theft", theft, log, NO_CERTIFICATE)


async def test_a_refusal_that_the_store_confirms_is_good(log):
    outcome = await steal(log, Theft(Refused("closed"), told_by_the_store(log, NO_CERTIFICATE)))
    assert outcome.good
    assert outcome.ended == f"refused: closed; the store says {NO_CERTIFICATE}"


async def test_a_theft_that_succeeds_is_bad_whatever_the_store_says(log):
    outcome = await steal(log, Theft(1, told_by_the_store(log, NO_CERTIFICATE)))
    assert (outcome.good, outcome.ended) == (False, "got away with 1 copies")


async def test_a_store_that_is_down_has_refused_nobody(log):
    assert not (await steal(log, Theft(Refused("connection refused")))).good


async def test_a_refusal_for_another_reason_is_bad(log):
    theft = Theft(Refused("closed"), told_by_the_store(log, "WRONG_VERSION_NUMBER"))
    assert not (await steal(log, theft)).good


class Process:
    """What is left of a launched enclave in these tests."""

    def __init__(self) -> None:
        self.killed = False

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> None:
        assert self.killed


async def under_stale_signature(monkeypatch, launch: Callable[..., Any]) -> attacks.Outcome:
    monkeypatch.setattr(attacks, "launch", launch)
    system: Any = SimpleNamespace(enclaves={"bookbuyer": SimpleNamespace(signature=b"")}, platform=None)
    forged: Any = SimpleNamespace(image=b"")
    return await attacks._under_stale_signature(system, forged)


def raising(error: Exception) -> Callable[..., Any]:
    def launch(*_: object, **__: object) -> None:
        raise error

    return launch


async def test_an_image_that_does_not_launch_is_good(monkeypatch):
    assert (await under_stale_signature(monkeypatch, raising(MeasurementMismatch("other code")))).good


async def test_an_image_that_launches_is_bad_and_is_ended(monkeypatch):
    process = Process()
    outcome = await under_stale_signature(monkeypatch, lambda *_, **__: SimpleNamespace(process=process))
    assert (outcome.good, outcome.ended, process.killed) == (False, "launched", True)


async def test_a_machine_that_launches_nothing_proves_nothing(monkeypatch):
    with pytest.raises(EnclaveError):
        await under_stale_signature(monkeypatch, raising(EnclaveError("cannot start the enclave")))


def seen(activated: tuple[str, ...] = MARBLES, **counters: dict[str, int]) -> Observation:
    services = {
        name: {"certificateExpires": "soon", "counters": counters.get(name, {})} for name in (*MARBLES, "bookthief")
    }
    return Observation(services, tuple({"activation": {"marbleType": name}} for name in activated))


TRADED = {"bookbuyer": {"books_bought": 3}, "bookstore": {"books_sold": 3}, "bookwarehouse": {"books_sold": 3}}


def sold(before: Observation, now: Observation) -> Outcome:
    return trading.sold(before, now, "books")


def test_books_count_when_all_three_have_counted_them():
    assert sold(seen(), seen(**TRADED)).good
    for name in TRADED:
        assert not sold(seen(), seen(**{**TRADED, name: {}})).good, name
    assert not sold(seen(**TRADED), seen(**TRADED)).good  # what was bought in an earlier run does not count


def test_an_activation_that_the_coordinator_does_not_know_of_is_bad():
    assert confidential.attested(seen(), {}).good
    assert not confidential.attested(seen(activated=MARBLES[1:]), {}).good
    assert not confidential.attested(Observation({}, ()), {"bookstore": "it cannot listen"}).good


@pytest.mark.parametrize(
    ("counters", "good"),
    [
        ({"attempts": 9, "books_stolen": 0}, True),
        ({"attempts": 9, "books_stolen": 1}, False),
        ({"attempts": 0, "books_stolen": 0}, False),
        ({}, False),
    ],
)
def test_a_thief_that_never_tried_proves_nothing(counters, good):
    assert confidential.nothing_stolen(seen(bookthief=counters)).good is good


async def test_nobody_turned_away_is_no_denial(monkeypatch):
    async def look(_: object) -> Observation:
        return Observation({}, ({"denial": {"uuid": "another", "reason": "SignerID"}},))

    monkeypatch.setattr(attacks, "observe", look)
    monkeypatch.setattr(attacks, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(attacks, "_LOOK_SECONDS", 0.02)
    async with asyncio.timeout(5):
        assert await attacks._denial(SimpleNamespace(topology=None), "mine") is None


PRINCIPAL, STORE = "bookthief.bookthief.cluster.local", "bookstore/bookstore"
ROW = {"source": PRINCIPAL, "destination": STORE, "rule": "deny-by-default", "count": 4, "what": "POST /x"}
DENIED = "PERMISSION_DENIED: RBAC: access denied"


def under_policy(stolen: int = 2, **row: object) -> Observation:
    services = {"bookthief": {"counters": {"books_stolen": stolen}}}
    return Observation(services, (), {"refusals": [{**ROW, **row}]})


def test_a_refusal_by_the_mesh_names_the_rule_and_the_thief():
    outcome = mesh.judge(under_policy(), under_policy(), DENIED)
    assert outcome.good
    assert "PERMISSION_DENIED" in outcome.ended
    assert f"{PRINCIPAL}, rule deny-by-default, 4 times" in outcome.ended


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (under_policy(), under_policy(stolen=3), DENIED),
        (under_policy(), under_policy(), "UNAVAILABLE: connection refused"),
        (under_policy(), under_policy(source="bookbuyer.bookbuyer.cluster.local"), DENIED),
        (under_policy(), under_policy(destination="bookwarehouse/bookwarehouse"), DENIED),
        (under_policy(), Observation({}, ()), ""),
    ],
)
def test_what_is_no_refusal_of_the_thief_at_the_store_is_bad(then, now, told):
    assert not mesh.judge(then, now, told).good


async def test_going_round_the_sidecar_must_get_books_and_says_why():
    outcome = await mesh.round_the_sidecar(Theft(1))
    assert (outcome.good, outcome.ended) == (True, f"1 stolen: {mesh.ROUND_THE_SIDECAR}")
    assert not (await mesh.round_the_sidecar(Theft(Refused("closed")))).good


def test_permissive_mode_without_a_theft_shows_nothing():
    assert mesh.robbed(under_policy(stolen=1)).good
    assert not mesh.robbed(under_policy(stolen=0)).good


WORDS = "PERMISSION_DENIED: bookthief may not call /x (rule: deny-by-default)"


def attempts(*, tried: int = 2, refused: int = 2, words: str = WORDS) -> bookthief_pb2.Attempts:
    return bookthief_pb2.Attempts(method="attested marble", tried=tried, refused=refused, last_refusal=words)


@pytest.mark.parametrize(
    ("told", "activated", "good"),
    [
        (attempts(), ("bookthief",), True),
        (attempts(refused=1), ("bookthief",), False),
        (attempts(words="UNAVAILABLE: connection refused"), ("bookthief",), False),
        (attempts(words="PERMISSION_DENIED: RBAC: access denied"), ("bookthief",), False),
        (attempts(), (), False),
        (attempts(tried=0, refused=0, words=""), ("bookthief",), False),
        (None, ("bookthief",), False),
    ],
)
def test_an_attested_thief_is_refused_by_a_rule_of_the_store(told, activated, good):
    outcome = attested_thief.judge("a thief", told, seen(activated=activated))
    assert outcome.good is good, outcome
    if good:
        assert outcome.ended == f"attested; {WORDS}"
