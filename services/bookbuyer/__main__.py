"""Runs the buyer as a marble."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing

from confidential_bookstore.api.bookbuyer.v1.bookbuyer_pb2_grpc import add_BookbuyerServiceServicer_to_server
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import BookstoreServiceStub
from confidential_bookstore.marble import Journal, Marble
from confidential_bookstore.serving.process import run
from confidential_bookstore.serving.thread import DedicatedThread
from services.bookbuyer.buyer import Buyer
from services.bookbuyer.ledger import Ledger
from services.bookbuyer.service import BookbuyerService
from services.bookbuyer.settings import BuyerSettings


async def serve() -> None:
    """Activate, and buy until SIGTERM. A purchase that is cut short is finished at the next start."""
    async with Marble.from_environ() as marble:
        settings = BuyerSettings.from_environ(os.environ)
        with (
            closing(Journal(settings.journal_path, settings.journal_key.reveal())) as journal,
            DedicatedThread("journal") as thread,
        ):
            ledger = Ledger(journal, thread, marble.status)
            server = marble.server((add_BookbuyerServiceServicer_to_server, BookbuyerService(ledger)))
            buyer = Buyer(BookstoreServiceStub(marble.split_channel("bookstore", settings.stores)), ledger)
            async with asyncio.TaskGroup() as tasks:
                buying = tasks.create_task(buyer.run(interval=settings.interval, concurrency=settings.concurrency))
                await marble.serve(server)
                buying.cancel()


if __name__ == "__main__":
    run("bookbuyer", serve)
