"""What `cbs demo` shows: pure functions from an observation, or from outcomes, to things rich can print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from demo.attacks import Outcome
from demo.observation import Observation
from demo.topology import MARBLES, PAGES, Topology

_SHORT = 12


def dashboard(seen: Observation, thefts: Iterable[bookthief_pb2.Attempts], topology: Topology) -> RenderableType:
    """The whole screen."""
    return Group(attested(seen), books(seen), addresses(topology), refused(seen, thefts))  # the longest comes last


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
    """Who was refused, and why: at a marble's door by a rule, and each way in which the thief has tried."""
    table = _table("refused", "who", "how often", "why")
    for theft in thefts:
        table.add_row(f"bookthief: {theft.method}", str(theft.refused), theft.last_refusal)
    for name, page in seen.services.items():
        for refusal in page.get("refusals", ()):
            table.add_row(
                f"{refusal['peer']} at {name}", str(refusal["count"]), f"{refusal['method']}: rule {refusal['rule']}"
            )
    return table


def addresses(topology: Topology) -> Table:
    """Every URL."""
    table = Table.grid(padding=(0, 2))
    for name in PAGES:
        table.add_row(name, topology.page_url(name))
    table.add_row("coordinator", f"https://{topology.client_address}/api/v2/status")
    table.add_row("", f"{topology.events_url}/events")
    return table


def outcomes(parts: Sequence[Outcome]) -> Table:
    """How the story ended."""
    table = _table("outcomes", "", "what", "must be", "was")
    for part in parts:
        table.add_row(
            Text("ok", style="green") if part.good else Text("WRONG", style="bold red"),
            part.part,
            part.expected,
            Text(part.ended, overflow="fold"),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
