"""The sealed state in a database, for several coordinators: MariaDB, or SQLite.

Two tables, made on first use: `coordinator_state` with a row `current` and perhaps a row `old` (a pair that could not
be unsealed and was replaced on purpose), `coordinator_node_keys` with a row per machine. A write is one transaction
that changes the row only if it still has the version that the writer knows. Of two writers at a time, one gets a
conflict.

The database gets sealed bytes only and is not trusted with more than keeping them. A database that is away is reported
as such; the next call tries again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import LONGBLOB
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from confidential_bookstore.errors import ConfigurationError, SealedStateError, StateConflict, StoreUnavailable
from coordinator.sealing.store import SealedPair, version_of

CURRENT: Final = "current"
OLD: Final = "old"

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 15
_CONFLICTS = frozenset({1020, 1213})  # MariaDB: row has changed since it was read; deadlock
_UNUSABLE = frozenset({1044, 1045, 1049, 1142, 1146})  # MariaDB: no right, no such database, no such table
# PyMySQL is in pure Python.
_DRIVERS = {"mariadb": "mariadb+pymysql", "mysql": "mysql+pymysql"}

_metadata = sa.MetaData()
_blob = sa.LargeBinary().with_variant(LONGBLOB(), "mysql", "mariadb")
_state = sa.Table(
    "coordinator_state",
    _metadata,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("sealed_data", _blob, nullable=False),
    sa.Column("sealed_key", _blob),
)
_node_keys = sa.Table(
    "coordinator_node_keys",
    _metadata,
    sa.Column("node", sa.String(64), primary_key=True),
    sa.Column("sealed_key", _blob, nullable=False),
)


class SqlStore:
    """`StateStore` in the database at an SQLAlchemy URL, for example `mariadb://user:password@host/name?ssl_ca=FILE`.

    TLS to MariaDB is set in the URL: `ssl_ca`, `ssl_cert`, `ssl_key` (files), `ssl_check_hostname`. Safe to use from
    several threads. The database need not be there yet.

    Raises:
        ConfigurationError: not a URL, or one of a database without a driver.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._has_tables = False

    def read(self) -> SealedPair | None:
        """See `StateStore`."""
        query = sa.select(_state.c.sealed_data, _state.c.sealed_key, _state.c.version).where(_state.c.name == CURRENT)
        with self._transaction() as connection:
            row = connection.execute(query).one_or_none()
        return SealedPair(*row) if row is not None else None

    def version(self) -> str | None:
        """See `StateStore`."""
        with self._transaction() as connection:
            version: str | None = connection.scalar(sa.select(_state.c.version).where(_state.c.name == CURRENT))
        return version

    def replace(self, data: bytes, key: bytes | None, *, expected: str | None, keep_old: bool = False) -> str:
        """See `StateStore`."""
        row = {"version": version_of(data), "sealed_data": data, "sealed_key": key}
        with self._transaction() as connection:
            if expected is None:
                connection.execute(sa.insert(_state).values(name=CURRENT, **row))
            else:
                if keep_old:
                    _set_aside(connection, expected)
                known = sa.and_(_state.c.name == CURRENT, _state.c.version == expected)
                if connection.execute(sa.update(_state).where(known).values(**row)).rowcount != 1:
                    raise _conflict()
        return version_of(data)

    def read_node_key(self, node: str) -> bytes | None:
        """See `StateStore`."""
        with self._transaction() as connection:
            key: bytes | None = connection.scalar(sa.select(_node_keys.c.sealed_key).where(_node_keys.c.node == node))
        return key

    def write_node_key(self, node: str, key: bytes) -> None:
        """See `StateStore`."""
        try:
            self._write_node_key(node, key)
        except StateConflict:  # another one has inserted the row since we looked
            self._write_node_key(node, key)

    def _write_node_key(self, node: str, key: bytes) -> None:
        with self._transaction() as connection:
            present = sa.update(_node_keys).where(_node_keys.c.node == node).values(sealed_key=key)
            if connection.execute(present).rowcount == 0:
                connection.execute(sa.insert(_node_keys).values(node=node, sealed_key=key))

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        """Committed at the end of the block. Of the driver's errors, its own words are passed on, never a value."""
        try:
            if not self._has_tables:
                _make_tables(self._engine)
                self._has_tables = True
            with self._engine.begin() as connection:
                yield connection
        except IntegrityError as error:
            raise _conflict() from error
        except DBAPIError as error:
            raise self._refusal(error) from error
        except SQLAlchemyError as error:
            raise StoreUnavailable("the database cannot be used now", got=type(error).__name__) from error

    def _refusal(self, error: DBAPIError) -> StoreUnavailable | SealedStateError:
        arguments = error.orig.args if error.orig is not None else ()
        number = arguments[0] if arguments else None
        if number in _CONFLICTS:
            return _conflict()
        self._has_tables = False  # they may be gone when the database comes back
        said = " ".join(str(argument) for argument in arguments)
        if number in _UNUSABLE:
            return StoreUnavailable(
                f"the database does not let us in: {said}", hint="check the name, the user, and its rights"
            )
        return StoreUnavailable(f"the database is away: {said}", hint=f"check that {self._place} is up and reachable")

    @property
    def _place(self) -> str:
        url = self._engine.url
        return url.set(username=None, password=None, query={}).render_as_string()


def _engine(url: str) -> sa.Engine:
    """Never lets a URL into a message: it may hold a password, and a wrong one may hold it anywhere."""
    options: dict[str, Any] = {"pool_pre_ping": True, "hide_parameters": True}
    try:
        parsed = sa.make_url(url)
        parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
        if parsed.get_backend_name() in _DRIVERS:
            # Each statement sees what is committed: a snapshot would show versions that are gone.
            options |= {"isolation_level": "READ COMMITTED", "pool_recycle": 3600}
            options["connect_args"] = {
                "connect_timeout": _CONNECT_SECONDS,
                "read_timeout": _ANSWER_SECONDS,
                "write_timeout": _ANSWER_SECONDS,
            }
        return sa.create_engine(parsed, **options)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError, TypeError):
        raise ConfigurationError(
            "the address of the database is wrong", expected="mariadb://user:password@host:port/name"
        ) from None


def _make_tables(engine: sa.Engine) -> None:
    """Those that are missing; another coordinator may be doing the same. Needs no rights if all are there."""
    with engine.begin() as connection:
        present = sa.inspect(connection).get_table_names()
        for table in _metadata.sorted_tables:
            if table.name not in present:
                connection.execute(CreateTable(table, if_not_exists=True))


def _set_aside(connection: sa.Connection, expected: str) -> None:
    connection.execute(sa.delete(_state).where(_state.c.name == OLD))
    replaced = sa.select(sa.literal(OLD), _state.c.version, _state.c.sealed_data, _state.c.sealed_key).where(
        _state.c.name == CURRENT, _state.c.version == expected
    )
    connection.execute(sa.insert(_state).from_select(["name", "version", "sealed_data", "sealed_key"], replaced))


def _conflict() -> StateConflict:
    return StateConflict("the sealed state was changed by another coordinator")
