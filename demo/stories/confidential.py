"""The story that `cbs demo` tells: is everything attested, are books sold, and does every theft fail?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

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
    before, seen = await _first_books(system)
    down = {name: words for name in MARBLES if (words := system.supervisor.last_words(name))}
    ended(_attested(seen, down), _sold(before, seen))
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


async def _first_books(system: System) -> tuple[Observation, Observation]:
    """When all three serve, and when all three have counted some more books; but it does not wait for ever."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    before: Observation | None = None
    while True:
        seen = await observe(system.topology)
        _, sold, kept = _traded(seen)
        # A store that has just started has not asked the warehouse for its totals yet.
        if before is None and sold == kept and all(seen.services.get(name, {}).get("ready") for name in MARBLES):
            before = seen
        if before is not None and min(_traded_since(before, seen)) >= _BOOKS:
            return before, seen
        if time.monotonic() > deadline:
            return before or seen, seen
        await asyncio.sleep(_LOOK_SECONDS)


def _attested(seen: Observation, down: Mapping[str, str]) -> Outcome:
    """`down`: why marbles had to be started again."""
    attested = seen.attested()
    missing = [f"{name} does not stay up: {down[name]}" for name in MARBLES if name in down and name not in attested]
    return Outcome(
        "every marble is attested before it gets a certificate",
        ", ".join(MARBLES),
        "; ".join([", ".join(attested) or "none", *missing]),
        good=attested == MARBLES and all(seen.latest_activation(name) for name in MARBLES),
    )


def _sold(before: Observation, seen: Observation) -> Outcome:
    bought, sold, kept = _traded_since(before, seen)
    return Outcome(
        "bookbuyer buys, bookstore sells, bookwarehouse keeps",
        f"{_BOOKS} books",
        f"{bought} bought, {sold} sold, {kept} kept",
        good=min(bought, sold, kept) >= _BOOKS,
    )


def _traded_since(before: Observation, seen: Observation) -> tuple[int, ...]:
    return tuple(now - then for now, then in zip(_traded(seen), _traded(before), strict=True))


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
