"""Are books bought and sold? The same question in every stage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from demo.observation import Observation
from demo.outcome import Outcome
from demo.topology import MARBLES

Look = Callable[[], Awaitable[Observation]]

BOOKS = 3
PATIENCE_SECONDS = 60.0
LOOK_SECONDS = 0.2


async def first_books(look: Look) -> tuple[Observation, Observation]:
    """When all serve, and when buyer, stores and warehouse have counted some more books; but not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    before: Observation | None = None
    while True:
        seen = await look()
        _, sold, kept = traded(seen)
        # A store that has just started has not asked the warehouse for its totals yet.
        if before is None and sold == kept and seen.ready(MARBLES):
            before = seen
        if before is not None and min(traded_since(before, seen)) >= BOOKS:
            return before, seen
        if time.monotonic() > deadline:
            return before or seen, seen
        await asyncio.sleep(LOOK_SECONDS)


async def until(look: Look, condition: Callable[[Observation], bool], *, seconds: float) -> Observation:
    """The first look that fits, or the last one when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        seen = await look()
        if condition(seen) or time.monotonic() > deadline:
            return seen
        await asyncio.sleep(LOOK_SECONDS)


def sold(before: Observation, seen: Observation, part: str) -> Outcome:
    """Books have been bought, sold and kept in between."""
    bought, sold, kept = traded_since(before, seen)
    return Outcome(
        part,
        f"{BOOKS} books",
        f"{bought} bought, {sold} sold, {kept} kept",
        good=min(bought, sold, kept) >= BOOKS,
    )


def traded_since(before: Observation, seen: Observation) -> tuple[int, ...]:
    """What `traded` counts, in between."""
    return tuple(now - then for now, then in zip(traded(seen), traded(before), strict=True))


def traded(seen: Observation) -> tuple[int, int, int]:
    """Books in the receipts of the buyer, and in the orders that stores and warehouse tell of."""
    return (
        seen.counter("bookbuyer", "books_bought"),
        seen.counter("bookstore", "books_sold") + seen.counter("bookstore-v2", "books_sold"),
        seen.counter("bookwarehouse", "books_sold"),
    )


def stolen(seen: Observation) -> int:
    """Copies that the thief has got away with."""
    return seen.counter("bookthief", "books_stolen")


def robbed(seen: Observation) -> bool:
    """Whether it has got any."""
    return stolen(seen) > 0
