"""A marble of the tests: attested like any other, and granted the keys to what the others have stored.

With it a test can compare what the buyer believes with what the warehouse keeps, from the files themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy

from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.marble import Marble, MarbleSettings
from confidential_bookstore.marble.journal import Journal
from confidential_bookstore.secret import Secret
from demo.system import System
from demo.topology import MESH_PORT
from services.bookbuyer.purchases import Intent, Refusal, decode
from services.bookwarehouse.engine import open_engine, transaction
from services.bookwarehouse.schema import books, orders

AUDITOR = EnclaveIdentity(mr_enclave=b"a" * 32, mr_signer=b"s" * 32, product_id=99, security_version=1)


def with_auditor(manifest: bytes) -> bytes:
    """The demo's manifest with one marble more, to which both storage keys are given."""
    document = json.loads(manifest)
    document["Packages"]["auditor"] = {"UniqueID": AUDITOR.mr_enclave.hex(), "Debug": False}
    document["Secrets"]["JournalKey"]["Shared"] = True
    keys = {"STORE_KEY": "{{ hex .Secrets.StoreKey }}", "JOURNAL_KEY": "{{ hex .Secrets.JournalKey }}"}
    document["Marbles"]["auditor"] = {"Package": "auditor", "Parameters": {"Env": keys}}
    return json.dumps(document).encode()


@dataclass(frozen=True)
class Keys:
    store: Secret[bytes]
    journal: Secret[bytes]


async def ask_for_keys(system: System, folder: Path) -> Keys:
    """Activate as the auditor; the coordinator hands over the keys to nobody else."""
    topology = system.topology
    settings = MarbleSettings.from_environ(
        {
            "EDG_MARBLE_TYPE": "auditor",
            "EDG_MARBLE_COORDINATOR_ADDR": f"{topology.host('coordinator')}:{MESH_PORT}",
            "CBS_COORDINATOR_CLIENT_ADDR": topology.client_address,
            "EDG_MARBLE_UUID_FILE": str(folder / "auditor-uuid"),
            "CBS_PCCS_URL": topology.pccs_url,
            "CBS_STATUS_ADDR": "127.0.0.1:0",
        }
    )
    trust = system.coordinator_trust()
    environ: dict[str, str] = {}
    async with Marble(
        settings,
        platform=InProcessPlatform(system.platform, AUDITOR),
        verifier=trust.verifier,
        coordinator_package=trust.package,
        environ=environ,
    ) as marble:
        return Keys(Secret(bytes.fromhex(marble.env["STORE_KEY"])), Secret(bytes.fromhex(marble.env["JOURNAL_KEY"])))


@dataclass(frozen=True, order=True)
class Sale:
    purchase_id: str
    order_id: str
    book_id: str
    quantity: int
    seller: str
    buyer: str
    microseconds: int


@dataclass(frozen=True)
class Journalled:
    receipts: list[Sale]
    pending: set[str]
    refused: list[str]


def journalled(system: System, keys: Keys) -> Journalled:
    """What the buyer believes; its process must have stopped."""
    receipts, intended, settled, refused = [], [], set(), []
    with contextlib.closing(
        Journal(system.topology.state / "bookbuyer" / "purchases.journal", keys.journal.reveal())
    ) as journal:
        for record in map(decode, journal):
            match record:
                case Intent():
                    intended.append(record.purchase_id)
                case Refusal():
                    refused.append(record.purchase_id)
                    settled.add(record.purchase_id)
                case _ if hasattr(record, "order_id"):
                    settled.add(record.purchase_id)
                    receipts.append(
                        Sale(
                            record.purchase_id,
                            record.order_id,
                            record.book.book_id,
                            record.quantity,
                            record.seller,
                            record.buyer,
                            record.sold_at.ToMicroseconds(),
                        )
                    )
    return Journalled(sorted(receipts), set(intended) - settled, refused)


def stored(system: System, keys: Keys) -> list[Sale]:
    """What the warehouse has committed; its process must have stopped."""
    engine = open_engine(system.topology.state / "bookwarehouse" / "books.db", keys.store)
    columns = orders.c
    query = sqlalchemy.select(
        columns.purchase_id,
        columns.order_id,
        columns.book_id,
        columns.quantity,
        columns.seller,
        columns.buyer,
        columns.sold_at,
    )
    with transaction(engine) as connection:
        rows = [Sale(*row) for row in connection.execute(query)]
    engine.dispose()
    return sorted(rows)


def titles(system: System, keys: Keys) -> list[str]:
    """All titles in the store, to look for them elsewhere."""
    engine = open_engine(system.topology.state / "bookwarehouse" / "books.db", keys.store)
    with transaction(engine) as connection:
        found = [title for (title,) in connection.execute(sqlalchemy.select(books.c.title))]
    engine.dispose()
    return found


async def settle(system: System) -> None:
    """Start the same system once more with a buyer that only finishes what is pending, and stop it again."""
    calm = {**system.topology.settings, "bookbuyer": {"CBS_BUY_INTERVAL": "3600"}}
    again = System(
        system.workspace,
        replace(system.topology, settings=calm),
        system.platform,
        system.enclaves,
        manifest=system.manifest,
    )
    async with again:
        await bought(again, more_than=-1)
        await asyncio.sleep(2)


async def bought(system: System, *, more_than: int, seconds: float = 60.0, counter: str = "books_bought") -> int:
    """Wait until the buyer runs, has nothing pending and has bought more than that."""
    from demo.observation import observe

    for _ in range(int(seconds / 0.2)):
        seen = await observe(system.topology)
        page = seen.services.get("bookbuyer", {})
        books_bought = seen.counter("bookbuyer", counter)
        if page.get("ready") and books_bought > more_than:
            return books_bought
        await asyncio.sleep(0.2)
    raise AssertionError(f"the buyer has not bought more than {more_than} books: {seen}")
