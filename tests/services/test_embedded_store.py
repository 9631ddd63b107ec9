"""What only the encrypted file promises: keys, secrecy, damage, and durability through kill -9."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing
from pathlib import Path

import pytest
from bookstore_world import BOOKS, KEY, OTHER_KEY, new_id
from sqlalchemy import update

from confidential_bookstore.errors import SealedStateError, StoreUnavailable
from confidential_bookstore.secret import Secret
from services.bookwarehouse import schema
from services.bookwarehouse.embedded import EmbeddedStore
from services.bookwarehouse.engine import transaction
from services.bookwarehouse.store import Sale, Sold


@pytest.fixture
def path(tmp_path):
    return tmp_path / "books.db"


def opened(path: Path, key: bytes = KEY) -> EmbeddedStore:
    return EmbeddedStore(path, Secret(key))


def filled(path: Path) -> EmbeddedStore:
    store = opened(path)
    store.add_books(BOOKS, stock=10)
    buyer = "a-very-particular-buyer"
    store.sell([Sale(purchase_id=new_id(), book_id="emma", quantity=1, buyer=buyer, seller="bookstore-v1")])
    return store


def found_in(folder: Path, *words: str) -> set[str]:
    """Which of the words stand in clear, in UTF-8 or UTF-16, in any file of a folder."""
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    return {word for word in words if word.encode() in content or word.encode("utf-16-le") in content}


WORDS = ("Jane Austen", "Les Misérables", "emma", "books", "CREATE TABLE", "a-very-particular-buyer", "SQLite format 3")


def test_nothing_is_readable_while_open_nor_after(path):
    with closing(filled(path)):
        assert path.with_name("books.db-wal").stat().st_size > 0  # the log is searched, too
        assert found_in(path.parent, *WORDS) == set()
    assert path.stat().st_size > 4096
    assert found_in(path.parent, *WORDS) == set()


def test_the_search_would_find_an_unencrypted_file(path):
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("CREATE TABLE books (book_id, author, title, buyer)")
        plain.execute("INSERT INTO books VALUES ('emma', 'Jane Austen', 'Les Misérables', 'a-very-particular-buyer')")
        plain.commit()
    assert found_in(path.parent, *WORDS) == set(WORDS)


def test_the_key_never_reaches_the_disk(path):
    with closing(filled(path)):
        content = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert KEY not in content
    assert KEY.hex().encode() not in content.lower()


def test_another_key_is_refused_and_spoils_nothing(path):
    filled(path).close()
    with pytest.raises(SealedStateError, match="cannot be read with this key") as caught:
        opened(path, OTHER_KEY)
    assert "CBS_STORE_KEY" in caught.value.hint
    assert OTHER_KEY.hex() not in caught.value.diagnostics()
    with closing(opened(path)) as store:
        assert store.totals().orders == 1


def test_a_plain_database_is_refused(path):
    with closing(sqlite3.connect(path)) as plain:
        plain.execute("CREATE TABLE books (book_id)")
        plain.commit()
    with pytest.raises(SealedStateError):
        opened(path)


def damage_is_noticed(path: Path) -> bool:
    """At the latest when the damaged page is read; SQLite's own check reads them all."""
    try:
        with closing(opened(path)) as store, transaction(store._engine) as connection:
            return connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() != "ok"
    except SealedStateError:
        return True


def test_an_undamaged_file_passes_the_check(path):
    filled(path).close()
    assert not damage_is_noticed(path)


@pytest.mark.parametrize("where", [0, 15, 100, 4095, 4096 + 7, -1])
def test_a_changed_bit_is_noticed(path, where):
    filled(path).close()
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    assert damage_is_noticed(path)


def test_pages_that_changed_places_are_noticed(path):
    filled(path).close()
    content = path.read_bytes()
    pages = [content[i : i + 4096] for i in range(0, len(content), 4096)]
    pages[1], pages[2] = pages[2], pages[1]
    path.write_bytes(b"".join(pages))
    assert damage_is_noticed(path)


def test_a_damaged_page_is_an_error_where_it_is_read(path):
    filled(path).close()
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 + 7] ^= 1
    path.write_bytes(content)
    with pytest.raises(SealedStateError, match=r"malformed|not a database"):
        opened(path)


def test_a_folder_that_is_gone_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable):
        opened(tmp_path / "nowhere" / "books.db")


def test_a_locked_file_is_unavailable_and_the_sale_not_stored(path, monkeypatch):
    monkeypatch.setattr("services.bookwarehouse.engine._BUSY_SECONDS", 0.2)
    with closing(filled(path)) as store, closing(opened(path)) as other:
        wanted = Sale(purchase_id=new_id(), book_id="emma", quantity=1, buyer="b", seller="s")
        with transaction(other._engine), pytest.raises(StoreUnavailable, match="locked"):
            store.sell([wanted])
        assert not store.sell([wanted])[0].replayed


def test_another_schema_version_is_refused(path):
    with closing(filled(path)) as store, transaction(store._engine) as connection:
        connection.execute(update(schema.schema_version).values(version=99))
    with pytest.raises(SealedStateError, match=r"got \[99\], expected 1"):
        opened(path)


def test_commits_are_synced_to_disk(path):
    with closing(filled(path)) as store, store._engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "temp_store", "foreign_keys", "cipher_use_hmac")
        }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "temp_store": 2,
        "foreign_keys": 1,
        "cipher_use_hmac": "1",
    }


SELLER = """
    import sys, uuid
    from pathlib import Path
    from confidential_bookstore.secret import Secret
    from services.bookwarehouse.embedded import EmbeddedStore
    from services.bookwarehouse.store import Sale

    store = EmbeddedStore(Path(sys.argv[1]), Secret(bytes.fromhex(sys.argv[2])))
    while True:
        batch = [
            Sale(purchase_id=str(uuid.uuid4()), book_id="emma", quantity=1, buyer="b", seller="s") for _ in range(3)
        ]
        for outcome in store.sell(batch):
            print(outcome.receipt.sale.purchase_id, outcome.receipt.order_id, flush=True)
"""


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.35])
def test_kill_9_loses_no_acknowledged_sale_and_halves_none(path, seconds):
    with closing(opened(path)) as store:
        store.add_books(BOOKS, stock=1_000_000)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SELLER), str(path), KEY.hex()], stdout=subprocess.PIPE, text=True
    )
    first = process.stdout.readline()
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    acknowledged = [line.split() for line in (first + rest).splitlines() if line.count("-") == 8]
    with closing(opened(path)) as store:
        for purchase_id, order_id in acknowledged:
            again = Sale(purchase_id=purchase_id, book_id="emma", quantity=1, buyer="b", seller="s")
            (outcome,) = store.sell([again])
            assert isinstance(outcome, Sold)
            assert outcome.replayed
            assert outcome.receipt.order_id == order_id
        totals = store.totals()
        assert totals.orders >= len(acknowledged) > 0
        assert totals.orders % 3 == 0  # whole batches
        assert totals.books_sold == totals.orders
        assert totals.stock == 3_000_000 - totals.books_sold
