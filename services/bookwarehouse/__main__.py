"""Runs the warehouse as a marble."""

from __future__ import annotations

import os

from confidential_bookstore.api.bookwarehouse.v1.bookwarehouse_pb2_grpc import (
    add_BookwarehouseServiceServicer_to_server,
)
from confidential_bookstore.marble import Marble
from confidential_bookstore.serving.process import run
from confidential_bookstore.serving.thread import DedicatedThread
from services.bookwarehouse.catalogue import load_catalogue
from services.bookwarehouse.embedded import EmbeddedStore
from services.bookwarehouse.service import BookwarehouseService
from services.bookwarehouse.settings import WarehouseSettings


async def serve() -> None:
    """Activate, open the store with the key that the coordinator gave, serve until SIGTERM."""
    async with Marble.from_environ() as marble:
        settings = WarehouseSettings.from_environ(os.environ)
        with DedicatedThread("store") as thread:
            store = await thread.run(EmbeddedStore, settings.store_path, settings.store_key)
            try:
                await thread.run(store.add_books, load_catalogue(), stock=settings.initial_stock)
                service = BookwarehouseService(store, thread, marble.status)
                await service.start()
                await marble.serve(marble.server((add_BookwarehouseServiceServicer_to_server, service)))
            finally:
                await thread.run(store.close)


if __name__ == "__main__":
    run("bookwarehouse", serve)
