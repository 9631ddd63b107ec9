"""Opens the encrypted file: SQLCipher through SQLAlchemy.

Every page is encrypted with AES-256 and authenticated with HMAC-SHA512 (https://www.zetetic.net/sqlcipher/design/),
the write-ahead log's pages too. What this does not give is freshness: an old copy of the whole file is a valid file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import QueuePool
from sqlcipher3 import dbapi2 as _untyped

from confidential_bookstore.errors import SealedStateError, StoreUnavailable
from confidential_bookstore.secret import Secret

dbapi2: Any = _untyped  # a compiled module without type stubs

_BUSY_SECONDS = 10.0

_PRAGMAS = (
    "cipher_log_level = NONE",  # errors are raised; SQLCipher would also print them
    "cipher_use_hmac = ON",
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit returns after fsync
    "cache_size = -512",  # KiB; the pages in use are few, and memory of an enclave is dear
    "temp_store = MEMORY",  # temporary tables would be files of their own
    "foreign_keys = ON",
    "trusted_schema = OFF",
)


def open_engine(path: Path, key: Secret[bytes]) -> Engine:
    """An engine with one connection to the file, which is made if it does not exist.

    Args:
        path: of the database file.
        key: 32 bytes, used as they are: it is random already, so no password stretching.
    """

    def connect() -> Any:
        # isolation_level None: the driver begins no transaction of its own accord, `_begin` does.
        connection = dbapi2.connect(str(path), timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA key = \"x'{key.reveal().hex()}'\"")
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        return connection

    engine = create_engine(
        "sqlite://",
        module=dbapi2,
        creator=connect,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    # The write lock is taken before anything is read: what was read is still true when it is acted upon.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction, with the database's errors in the terms of our own.

    Raises:
        StoreUnavailable: the file cannot be opened, locked or written.
        SealedStateError: the file is not an encrypted database, or was encrypted with another key, or was changed.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except OperationalError as error:
        raise StoreUnavailable(f"the store cannot be used: {error.orig}") from error
    except DBAPIError as error:
        if type(error.orig) is dbapi2.DatabaseError:  # itself, no subclass: "not a database", "malformed"
            raise SealedStateError(
                f"the store cannot be read with this key: {error.orig}",
                hint="CBS_STORE_KEY is another one than the store was made with, or the file was changed",
            ) from error
        raise
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"the store cannot be used: {error}") from error
