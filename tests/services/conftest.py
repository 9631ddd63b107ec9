from __future__ import annotations

import pytest
from bookstore_world import BOOKS, KEY

from confidential_bookstore.secret import Secret
from confidential_bookstore.serving.thread import DedicatedThread
from confidential_bookstore.telemetry.status import Status
from services.bookwarehouse.embedded import EmbeddedStore


class OpenStores:
    """Opens stores of one kind on one place, again and again, as restarts do."""

    def __init__(self, kind, folder) -> None:
        self.kind = kind
        self.path = folder / "books.db"
        self._open = []

    def open(self, key: bytes = KEY, **options):
        store = self.kind(self.path, Secret(key), **options)
        self._open.append(store)
        return store

    def close(self) -> None:
        for store in self._open:
            store.close()


@pytest.fixture(params=[EmbeddedStore])
def stores(request, tmp_path):
    """One implementation of `Store` after the other; add yours to the list and it has to pass everything."""
    opened = OpenStores(request.param, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def store(stores):
    opened = stores.open()
    opened.add_books(BOOKS, stock=10)
    return opened


@pytest.fixture
def thread():
    with DedicatedThread("test") as dedicated:
        yield dedicated


@pytest.fixture
def status():
    return Status("test")


@pytest.fixture
def counters(status):
    return lambda: {counter.name: counter.value for counter in status.counters()}
