"""The story ends badly when it should: no theft that succeeds, and no silence, may look like a refusal."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from confidential_bookstore.errors import EnclaveError, MeasurementMismatch
from demo import attacks, story
from demo.door import NO_CERTIFICATE
from demo.observation import Observation
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


def test_books_count_when_all_three_have_counted_them():
    assert story._sold(seen(), seen(**TRADED)).good
    for name in TRADED:
        assert not story._sold(seen(), seen(**{**TRADED, name: {}})).good, name
    assert not story._sold(seen(**TRADED), seen(**TRADED)).good  # what was bought in an earlier run does not count


def test_an_activation_that_the_coordinator_does_not_know_of_is_bad():
    assert story._attested(seen(), {}).good
    assert not story._attested(seen(activated=MARBLES[1:]), {}).good
    assert not story._attested(Observation({}, ()), {"bookstore": "it cannot listen"}).good


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
    assert story._stolen(seen(bookthief=counters)).good is good


async def test_nobody_turned_away_is_no_denial(monkeypatch):
    async def look(_: object) -> Observation:
        return Observation({}, ({"denial": {"uuid": "another", "reason": "SignerID"}},))

    monkeypatch.setattr(attacks, "observe", look)
    monkeypatch.setattr(attacks, "_PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(attacks, "_LOOK_SECONDS", 0.02)
    async with asyncio.timeout(5):
        assert await attacks._denial(SimpleNamespace(topology=None), "mine") is None
