"""Stage `confidential`: is everything attested, are books sold, and does every theft fail?"""

from __future__ import annotations

from collections.abc import Mapping

from confidential_bookstore.errors import MeshError
from demo.attacks import change_one_line, steal_at_the_door
from demo.attested_thief import steal_round_the_sidecar, steal_through_the_mesh
from demo.mesh import Mesh
from demo.observation import Observation
from demo.outcome import Outcome, Report
from demo.stories import trading
from demo.stories.mesh import THIEF, in_words
from demo.system import System
from demo.topology import MARBLES, key_of

_ALLOWING = "traffic-access-v1-allow-bookthief.yaml"
_ALLOWED_FILE = "traffic-access-v1.yaml"
_SECONDS = 15.0


async def tell(system: System, report: Report) -> list[Outcome]:
    """Go through all parts; each outcome is reported as soon as it is known."""
    outcomes: list[Outcome] = []

    def ended(*parts: Outcome) -> None:
        for part in parts:
            outcomes.append(part)
            report(part)

    ended(owner(system))
    before, seen = await trading.first_books(system.observe)
    down = {name: words for name in MARBLES if (words := system.supervisor.last_words(name))}
    ended(attested(seen, down))
    ended(trading.sold(before, seen, "bookbuyer buys, bookstore sells, bookwarehouse keeps"))
    ended(*await steal_at_the_door(system))
    ended(*await change_one_line(system))
    if system.mesh is not None:
        ended(await _mesh_refuses(system), await _mesh_allows(system.mesh))
    ended(await steal_through_the_mesh(system))
    if system.mesh is not None:
        ended(await steal_round_the_sidecar(system))
    ended(nothing_stolen(await system.observe()))
    return outcomes


def owner(system: System) -> Outcome:
    """What the data owner has found before anything else."""
    part, expected = "the data owner verifies coordinator and manifest", "both as agreed"
    if system.deployment is None:
        return Outcome(part, expected, "not verified", good=False)
    claims = system.deployment.claims
    kind = "simulated SGX" if claims.simulated else claims.tee
    ended = f"{kind}, UniqueID {claims.unique_id[:16]}, manifest {system.deployment.fingerprint[:16]}"
    return Outcome(part, expected, ended, good=True)


def attested(seen: Observation, down: Mapping[str, str]) -> Outcome:
    """`down`: why marbles had to be started again."""
    attested = seen.attested()
    missing = [f"{name} does not stay up: {down[name]}" for name in MARBLES if name in down and name not in attested]
    return Outcome(
        "every marble is attested before it gets a certificate",
        ", ".join(MARBLES),
        "; ".join([", ".join(attested) or "none", *missing]),
        good=attested == MARBLES and all(seen.latest_activation(name) for name in MARBLES),
    )


async def _mesh_refuses(system: System) -> Outcome:
    """A sidecar cannot read what marbles say to each other, but it knows who connects."""
    part, expected = "the mesh: bookthief's connections to the store", "refused by a rule (intended)"
    store = key_of("bookstore")
    seen = await trading.until(system.observe, lambda now: bool(now.refused_by_mesh(THIEF, store)), seconds=_SECONDS)
    rows = seen.refused_by_mesh(THIEF, store)
    return Outcome(part, expected, in_words(rows[0]) if rows else "nobody was refused", good=bool(rows))


async def _mesh_allows(mesh: Mesh) -> Outcome:
    """The host gives the thief what it wants: the mesh is the host's."""
    part, expected = "the host lets bookthief through the mesh", "allowed, for it is the host's policy"
    try:
        await mesh.replace(_ALLOWED_FILE, _ALLOWING)
    except MeshError as error:
        return Outcome(part, expected, str(error), good=False)
    return Outcome(part, expected, f"{_ALLOWING} is in force", good=True)


def nothing_stolen(seen: Observation) -> Outcome:
    """Whatever the thief has tried, with all of its methods."""
    stolen, tried = trading.stolen(seen), seen.counter("bookthief", "attempts")
    return Outcome(
        "bookthief, trying all the time",
        "nothing stolen",
        f"{stolen} stolen in {tried} attempts",
        good=stolen == 0 < tried,
    )
