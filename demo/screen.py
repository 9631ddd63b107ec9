"""What `cbs demo` shows: pure functions from an observation, or from outcomes, to things rich can print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from demo.observation import Observation
from demo.outcome import Outcome
from demo.stages import Stage
from demo.topology import MARBLES, PAGES, Topology
from demo.workspace import Workspace

_SHORT = 12


def dashboard(
    seen: Observation, thefts: Iterable[bookthief_pb2.Attempts], topology: Topology, *, coordinator: bool = True
) -> RenderableType:
    """The whole screen; without a coordinator, nobody is attested. The longest table comes last."""
    who = [attested(seen)] if coordinator else []
    return Group(
        *warnings(seen), *who, books(seen), addresses(topology, coordinator=coordinator), refused(seen, thefts)
    )


def warnings(seen: Observation) -> list[Text]:
    """What must not be overlooked."""
    loud = []
    if seen.mesh.get("permissive"):
        loud.append("PERMISSIVE MODE: the mesh lets every sidecar call every service")
    if error := seen.mesh.get("error"):
        loud.append(f"the mesh refuses its policy, the one before is in force: {error['message']}")
    return [Text(f" {words} ", style="bold white on red") for words in loud]


def attested(seen: Observation) -> Table:
    """Who is attested, by which measurement, and until when."""
    table = _table("who is attested", "marble", "platform", "UniqueID", "SignerID", "certificate expires", "state")
    for name in MARBLES:
        page = seen.services.get(name)
        if page is None or not page.get("uniqueID"):
            table.add_row(name, "", "", "", "", Text("starting", style="yellow"))
            continue
        state = Text("ready", style="green") if page["ready"] else Text(str(page["reason"]), style="yellow")
        table.add_row(
            name,
            str(page["platform"]),
            str(page["uniqueID"])[:_SHORT],
            str(page["signerID"])[:_SHORT],
            str(page.get("certificateExpires") or ""),
            state,
        )
    return table


def books(seen: Observation) -> Table:
    """The counters of the original demo."""
    table = _table("books", "bought", "sold", "in stock", "stolen")
    table.add_row(
        str(seen.counter("bookbuyer", "books_bought")),
        str(seen.counter("bookstore", "books_sold")),
        str(seen.counter("bookwarehouse", "stock_total")),
        Text(str(seen.counter("bookthief", "books_stolen")), style="bold"),
    )
    return table


def refused(seen: Observation, thefts: Iterable[bookthief_pb2.Attempts]) -> Table:
    """Who was refused where, how often and by what; and each way in which the thief has tried."""
    table = _table("refused, all of it intended", "who", "by", "how often", "why")
    for row in seen.mesh.get("refusals", ()):
        table.add_row(
            row["source"], f"mesh: sidecar of {row['destination']} ({row['layer']})", str(row["count"]), _rule(row)
        )
    for denial, count in seen.denials_by_type().values():
        table.add_row(str(denial["marbleType"]), "attestation: coordinator", str(count), str(denial["reason"]))
    for name, page in seen.services.items():
        for row in page.get("refusals", ()):
            table.add_row(
                str(row["peer"]), f"attested policy: {name}", str(row["count"]), f"{row['method']}: rule {row['rule']}"
            )
    for theft in thefts:
        table.add_row(f"bookthief: {theft.method}", "", str(theft.refused), theft.last_refusal)
    return table


def _rule(row: Mapping[str, Any]) -> str:
    """`what` and rule of a row of the mesh's refusals."""
    return f"{row['what']}: rule {row['rule']}"


def addresses(topology: Topology, *, coordinator: bool = True) -> Table:
    """Every URL."""
    table = Table.grid(padding=(0, 2))
    for name in PAGES:
        table.add_row(name, topology.page_url(name))
    if coordinator:
        table.add_row("coordinator", f"https://{topology.client_address}/api/v2/status")
        table.add_row("", f"{topology.events_url}/events")
    return table


def how_to_ask(stage: Stage, workspace: Workspace) -> list[str]:
    """What to type elsewhere while a stage runs, and what can be changed."""
    match stage:
        case Stage.PLAIN:
            return ["every service takes gRPC in the clear, from anybody: the pages below say what came of it"]
        case Stage.MESH:
            return [
                f"what the mesh does, and whom it refused: cbs mesh status {workspace.mesh}",
                f"its policy, in force as soon as a file has changed: {workspace.mesh / 'policy'}",
            ]
        case Stage.CONFIDENTIAL:
            return [
                f"ask as its owner: CBS_CONTEXT={workspace.owner.contexts} cbs verify",
                f"the host's mesh: cbs mesh status {workspace.mesh}; its policy: {workspace.mesh / 'policy'}",
                f"the owner's policy, in force with a manifest update: {workspace.owner.folder / 'policy'}",
            ]


def outcomes(told: Iterable[tuple[Stage, Sequence[Outcome]]]) -> Table:
    """How the stories ended. `intended` are refusals and thefts that have to be."""
    table = _table("outcomes", "stage", "", "what", "must be", "was")
    for stage, parts in told:
        for number, part in enumerate(parts, start=1):
            table.add_row(
                "" if number > 1 else stage.value,
                Text("ok", style="green") if part.good else Text("WRONG", style="bold red"),
                part.part,
                part.expected,
                Text(part.ended, overflow="fold"),
                end_section=number == len(parts),
            )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
