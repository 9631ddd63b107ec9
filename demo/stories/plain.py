"""Stage `plain`: whoever says that it is the buyer gets books."""

from __future__ import annotations

from demo.observation import Observation
from demo.ordinary import OrdinarySystem
from demo.outcome import Outcome, Report
from demo.stories import trading

_SECONDS = 15.0


async def tell(system: OrdinarySystem, report: Report) -> list[Outcome]:
    """Go through all parts; each outcome is reported as soon as it is known."""
    before, seen = await trading.first_books(system.observe)
    outcomes = [trading.sold(before, seen, "bookbuyer buys, bookstore sells, bookwarehouse keeps")]
    report(outcomes[-1])
    seen = await trading.until(system.observe, trading.robbed, seconds=_SECONDS)
    outcomes.append(robbed("a thief who says that it is bookbuyer", "steals: nobody checks (intended)", seen))
    report(outcomes[-1])
    return outcomes


def robbed(part: str, expected: str, seen: Observation) -> Outcome:
    """Where there is no protection, the thief must get books: or else the story shows nothing."""
    stolen, refused = trading.stolen(seen), seen.counter("bookthief", "refused")
    return Outcome(part, expected, f"{stolen} stolen, {refused} times refused", good=stolen > 0)
