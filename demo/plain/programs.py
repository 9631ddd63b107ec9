"""What each service consists of: the same as in its own `__main__`, on a `PlainProcess` in place of a `Marble`."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing

from confidential_bookstore.api.bookbuyer.v1.bookbuyer_pb2_grpc import add_BookbuyerServiceServicer_to_server
from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import (
    BookstoreServiceStub,
    add_BookstoreServiceServicer_to_server,
)
from confidential_bookstore.api.bookthief.v1.bookthief_pb2_grpc import add_BookthiefServiceServicer_to_server
from confidential_bookstore.api.bookwarehouse.v1.bookwarehouse_pb2_grpc import (
    BookwarehouseServiceStub,
    add_BookwarehouseServiceServicer_to_server,
)
from confidential_bookstore.marble import Journal
from confidential_bookstore.serving.thread import DedicatedThread
from demo.plain.process import PlainProcess
from services.bookbuyer.buyer import Buyer
from services.bookbuyer.ledger import Ledger
from services.bookbuyer.service import BookbuyerService
from services.bookbuyer.settings import BuyerSettings
from services.bookstore.restock import Restocker
from services.bookstore.sales import SalesBoard
from services.bookstore.service import BookstoreService
from services.bookstore.settings import StoreSettings
from services.bookstore.warehouse import Warehouse
from services.bookthief.diary import Diary
from services.bookthief.methods.plaintext import Plaintext
from services.bookthief.service import BookthiefService
from services.bookthief.settings import ThiefSettings
from services.bookthief.thief import Thief
from services.bookwarehouse.catalogue import load_catalogue
from services.bookwarehouse.embedded import EmbeddedStore
from services.bookwarehouse.service import BookwarehouseService
from services.bookwarehouse.settings import WarehouseSettings


async def bookwarehouse() -> None:
    """Keeps the books, and takes every caller for a bookstore."""
    async with PlainProcess() as process:
        settings = WarehouseSettings.from_environ(os.environ)
        with DedicatedThread("store") as thread:
            store = await thread.run(EmbeddedStore, settings.store_path, settings.store_key)
            try:
                await thread.run(store.add_books, load_catalogue(), stock=settings.initial_stock)
                service = BookwarehouseService(store, thread, process.status)
                await service.start()
                await process.serve((add_BookwarehouseServiceServicer_to_server, service))
            finally:
                await thread.run(store.close)


async def bookstore() -> None:
    """Sells to everybody."""
    async with PlainProcess() as process:
        settings = StoreSettings.from_environ(os.environ)
        stub = BookwarehouseServiceStub(process.channel(settings.warehouse_address))
        warehouse = Warehouse(stub, settings.seller)
        restocker = Restocker(warehouse, settings.restock_copies) if settings.restock_copies else None
        board = SalesBoard(warehouse, process.status)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(board.follow())
            await process.serve((add_BookstoreServiceServicer_to_server, BookstoreService(warehouse, restocker, board)))
            following.cancel()


async def bookbuyer() -> None:
    """Buys, and pays for it."""
    async with PlainProcess() as process:
        settings = BuyerSettings.from_environ(os.environ)
        with (
            closing(Journal(settings.journal_path, settings.journal_key.reveal())) as journal,
            DedicatedThread("journal") as thread,
        ):
            ledger = Ledger(journal, thread, process.status)
            buyer = Buyer(BookstoreServiceStub(process.channel(settings.stores["bookstore"])), ledger)
            async with asyncio.TaskGroup() as tasks:
                buying = tasks.create_task(buyer.run(interval=settings.interval, concurrency=settings.concurrency))
                await process.serve((add_BookbuyerServiceServicer_to_server, BookbuyerService(ledger)))
                buying.cancel()


async def bookthief() -> None:
    """Asks, and gets what it asks for."""
    async with PlainProcess() as process:
        settings = ThiefSettings.from_environ(os.environ)
        diary = Diary(settings.diary_path, process.status)
        async with asyncio.TaskGroup() as tasks:
            stealing = tasks.create_task(Thief([Plaintext(settings.store_address)], diary).run(settings.interval))
            await process.serve((add_BookthiefServiceServicer_to_server, BookthiefService(diary)))
            stealing.cancel()


PROGRAMS = {
    "bookwarehouse": bookwarehouse,
    "bookstore": bookstore,
    "bookstore-v2": bookstore,
    "bookbuyer": bookbuyer,
    "bookthief": bookthief,
}
