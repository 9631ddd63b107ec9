"""Stage `mesh`: policy stops the thief, as long as whoever owns the host wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from confidential_bookstore.errors import MeshError
from demo.mesh import Mesh
from demo.observation import Observation, thefts
from demo.ordinary import OrdinarySystem
from demo.outcome import Outcome, Report
from demo.stories import trading
from demo.topology import Topology, key_of
from services.bookthief.methods import Method, Refused
from services.bookthief.methods.plaintext import Plaintext

THIEF = "bookthief.bookthief"
ROUND_THE_SIDECAR = "the host goes round the sidecar: nothing but the sidecar checks"
_SECONDS = 15.0
_WATCH_SECONDS = 1.0


async def tell(system: OrdinarySystem, mesh: Mesh, report: Report) -> list[Outcome]:
    """Go through all parts; each outcome is reported as soon as it is known. It begins in permissive mode."""
    outcomes: list[Outcome] = []

    def ended(outcome: Outcome) -> None:
        outcomes.append(outcome)
        report(outcome)

    before, seen = await trading.first_books(system.observe)
    ended(trading.sold(before, seen, "books are traded through sidecars, with mutual TLS"))
    seen = await trading.until(system.observe, trading.robbed, seconds=_SECONDS)
    permissive = seen.mesh.get("permissive") is True
    ended(robbed(seen) if permissive else Outcome("PERMISSIVE MODE", "on", "it is off", good=False))
    try:
        await mesh.set_permissive(on=False)
    except MeshError as error:
        ended(Outcome("policy on: the thief", "refused by a rule (intended)", str(error), good=False))
        return outcomes
    ended(await _refused(system))
    before, seen = await trading.first_books(system.observe)
    ended(trading.sold(before, seen, "policy on: bookbuyer goes on buying"))
    ended(await round_the_sidecar(Plaintext(system.topology.address("bookstore"))))
    return outcomes


def robbed(seen: Observation) -> Outcome:
    """In permissive mode."""
    stolen = trading.stolen(seen)
    return Outcome(
        "PERMISSIVE MODE: the thief",
        "steals: every sidecar may call (intended)",
        f"{stolen} stolen",
        good=stolen > 0,
    )


async def _refused(system: OrdinarySystem) -> Outcome:
    """The sidecar of the store has refused the thief, the thief has heard it, and gets nothing more."""
    store = key_of("bookstore")
    await trading.until(system.observe, lambda seen: bool(seen.refused_by_mesh(THIEF, store)), seconds=_SECONDS)
    then = await system.observe()
    await asyncio.sleep(_WATCH_SECONDS)
    now = await system.observe()
    return judge(then, now, await last_refusal(system.topology))


def judge(then: Observation, now: Observation, told: str) -> Outcome:
    """From two looks under policy, and what the thief was told last."""
    part, expected = "policy on: the thief", "PERMISSION_DENIED by a rule (intended)"
    rows = now.refused_by_mesh(THIEF, key_of("bookstore"))
    more = trading.stolen(now) - trading.stolen(then)
    if not rows or more:
        return Outcome(part, expected, f"{more} more stolen; {told or 'nobody was refused'}", good=False)
    return Outcome(part, expected, f"{told}; {in_words(rows[0])}", good="PERMISSION_DENIED" in told)


def in_words(row: Mapping[str, Any]) -> str:
    """A row of the mesh's refusals."""
    return f"sidecar of {row['destination']}: {row['source']}, rule {row['rule']}, {row['count']} times"


async def last_refusal(topology: Topology) -> str:
    """What the thief was told last."""
    return next((theft.last_refusal for theft in await thefts(topology.address("bookthief"))), "")


async def round_the_sidecar(method: Method) -> Outcome:
    """Whoever owns the host needs no sidecar: the store's own address is on it."""
    part, expected = "the host on the thief's side: straight to the store", "steals again (intended)"
    try:
        copies = await method.steal()
    except Refused as refused:
        return Outcome(part, expected, f"refused: {refused}", good=False)
    return Outcome(part, expected, f"{copies} stolen: {ROUND_THE_SIDECAR}", good=copies > 0)
