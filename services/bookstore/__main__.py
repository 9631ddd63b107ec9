"""Runs the store as a marble."""

from __future__ import annotations

import asyncio
import os

from confidential_bookstore.api.bookstore.v1.bookstore_pb2_grpc import add_BookstoreServiceServicer_to_server
from confidential_bookstore.api.bookwarehouse.v1.bookwarehouse_pb2_grpc import BookwarehouseServiceStub
from confidential_bookstore.marble import Marble
from confidential_bookstore.serving.process import run
from services.bookstore.restock import Restocker
from services.bookstore.sales import SalesBoard
from services.bookstore.service import BookstoreService
from services.bookstore.settings import StoreSettings
from services.bookstore.warehouse import Warehouse


async def serve() -> None:
    """Activate, and sell what the warehouse has until SIGTERM."""
    async with Marble.from_environ() as marble:
        settings = StoreSettings.from_environ(os.environ)
        channel = marble.channel("bookwarehouse", settings.warehouse_address)
        warehouse = Warehouse(BookwarehouseServiceStub(channel), settings.seller)
        restocker = Restocker(warehouse, settings.restock_copies) if settings.restock_copies else None
        board = SalesBoard(warehouse, marble.status)
        service = BookstoreService(warehouse, restocker, board)
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(board.follow())
            await marble.serve(marble.server((add_BookstoreServiceServicer_to_server, service)))
            following.cancel()


if __name__ == "__main__":
    run("bookstore", serve)
