"""The story that `cbs demo` tells: is everything attested, are books sold, and does every theft fail?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from demo.attacks import Outcome, change_one_line, steal_at_the_door
from demo.observation import Observation, observe
from demo.system import System
from demo.topology import MARBLES

_BOOKS = 3
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.2


async def tell(system: System, report: Callable[[Outcome], None]) -> list[Outcome]:
    """Go through all parts; each outcome is reported as soon as it is known."""
    outcomes: list[Outcome] = []

    def ended(*parts: Outcome) -> None:
        for part in parts:
            outcomes.append(part)
            report(part)

    ended(_owner(system))
    seen = await _first_books(system)
    ended(_attested(seen), _sold(seen))
    ended(*await steal_at_the_door(system))
    ended(*await change_one_line(system))
    ended(_stolen(await observe(system.topology)))
    return outcomes


def _owner(system: System) -> Outcome:
    part, expected = "the data owner verifies coordinator and manifest", "both as agreed"
    if system.deployment is None:
        return Outcome(part, expected, "not verified", good=False)
    claims = system.deployment.claims
    kind = "simulated SGX" if claims.simulated else claims.tee
    ended = f"{kind}, UniqueID {claims.unique_id[:16]}, manifest {system.deployment.fingerprint[:16]}"
    return Outcome(part, expected, ended, good=True)


async def _first_books(system: System) -> Observation:
    """Waits until all are attested and all three count some more books, but not for ever."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    before: int | None = None
    while True:
        seen = await observe(system.topology)
        if seen.attested() == MARBLES:
            traded = min(_traded(seen))
            before = traded if before is None else before
            if traded >= max(_BOOKS, before + 1):
                return seen
        if time.monotonic() > deadline:
            return seen
        await asyncio.sleep(_LOOK_SECONDS)


def _attested(seen: Observation) -> Outcome:
    attested = seen.attested()
    return Outcome(
        "every marble is attested before it gets a certificate",
        ", ".join(MARBLES),
        ", ".join(attested) or "none",
        good=attested == MARBLES and all(seen.latest_activation(name) for name in MARBLES),
    )


def _sold(seen: Observation) -> Outcome:
    bought, sold, kept = _traded(seen)
    return Outcome(
        "bookbuyer buys, bookstore sells, bookwarehouse keeps",
        f"{_BOOKS} books",
        f"{bought} bought, {sold} sold, {kept} kept",
        good=min(bought, sold, kept) >= _BOOKS,
    )


def _traded(seen: Observation) -> tuple[int, int, int]:
    """Books in the receipts of the buyer, and in the orders that store and warehouse tell of."""
    return (
        seen.counter("bookbuyer", "books_bought"),
        seen.counter("bookstore", "books_sold"),
        seen.counter("bookwarehouse", "books_sold"),
    )


def _stolen(seen: Observation) -> Outcome:
    stolen, tried = seen.counter("bookthief", "books_stolen"), seen.counter("bookthief", "attempts")
    return Outcome(
        "bookthief, trying all the time",
        "nothing stolen",
        f"{stolen} stolen in {tried} attempts",
        good=stolen == 0 < tried,
    )
