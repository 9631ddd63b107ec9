"""A database that is away, wrong, cut off or behind TLS. What every store must do is in test_state_stores.py."""

from __future__ import annotations

import os

import pytest
from mariadb_server import PASSWORD

from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import ConfigurationError, StoreUnavailable
from coordinator.sealing import sql
from coordinator.sealing.sql import SqlStore


def content(store):
    pair = store.read()
    return (pair.data, pair.key)


@pytest.mark.parametrize(
    "url", ["", "no url", "mariadb://u:hunter2@host:port/db", "oracle://u:hunter2@host/db", "nosuch://u:hunter2@host/"]
)
def test_a_wrong_address_is_not_shown(url):
    with pytest.raises(ConfigurationError) as refused:
        SqlStore(url)
    assert "hunter2" not in refused.value.diagnostics()
    assert refused.value.__cause__ is None


def test_a_database_that_is_away(mariadb):
    store = SqlStore("mariadb://coordinator:hunter2@127.0.0.1:1/test")
    for operation in (store.read, store.version, lambda: store.replace(b"", b"", expected=None)):
        with pytest.raises(StoreUnavailable, match="away") as refused:
            operation()
        assert "127.0.0.1:1" in refused.value.diagnostics()
        assert "hunter2" not in refused.value.diagnostics() + repr(refused.value.__cause__)


def test_a_database_that_does_not_let_us_in(mariadb):
    for url in (mariadb.url_of("test_1", password="hunter2"), mariadb.url_of("forbidden")):
        with pytest.raises(StoreUnavailable, match="does not let us in") as refused:
            SqlStore(url).read()
        assert "hunter2" not in refused.value.diagnostics()
        assert PASSWORD not in refused.value.diagnostics()


def test_tls_to_the_database_is_set_in_its_address(mariadb):
    url = mariadb.new_database()
    store = SqlStore(f"{url}?ssl_ca={mariadb.ca}")
    with store._engine.connect() as connection:
        (_, cipher) = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Ssl_cipher'").one()
    assert cipher
    store.replace(b"data", b"key", expected=None)
    plain = SqlStore(url)
    assert content(plain) == (b"data", b"key")
    plain.close()
    another = mariadb.ca.with_name("another.pem")
    another.write_bytes(SimulatedPlatform.create().root_pem)
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        SqlStore(f"{url}?ssl_ca={another}").read()
    store.close()


def test_a_database_that_comes_back(mariadb):
    store = SqlStore(mariadb.new_database())
    first = store.replace(b"first", b"1", expected=None)
    for end in (mariadb.stop, mariadb.kill):
        end()
        try:
            with pytest.raises(StoreUnavailable, match="away"):
                store.replace(b"never", b"", expected=first)
            with pytest.raises(StoreUnavailable, match="away"):
                store.version()
        finally:
            mariadb.start()
        assert content(store) == (b"first", b"1")
    assert store.replace(b"second", b"2", expected=first) == store.version()
    store.close()


def test_a_database_whose_tables_are_gone(mariadb):
    url = mariadb.new_database()
    store = SqlStore(url)
    store.replace(b"first", b"1", expected=None)
    name = url.rpartition("/")[2]
    mariadb.run(f"DROP DATABASE `{name}`", f"CREATE DATABASE `{name}`")
    with pytest.raises(StoreUnavailable):
        store.read()
    assert store.read() is None
    store.close()


def test_a_write_that_is_interrupted_has_not_happened(mariadb, monkeypatch):
    """The connection is lost between the two statements of one transaction."""
    store = SqlStore(mariadb.new_database())
    first = store.replace(b"first", b"1", expected=None)
    set_aside_in_order = sql._set_aside

    def set_aside_and_lose(connection, expected):
        set_aside_in_order(connection, expected)
        mariadb.run(f"KILL {connection.exec_driver_sql('SELECT CONNECTION_ID()').scalar()}")

    with monkeypatch.context() as cut:
        cut.setattr(sql, "_set_aside", set_aside_and_lose)
        with pytest.raises(StoreUnavailable):
            store.replace(b"second", b"2", expected=first, keep_old=True)
    assert content(store) == (b"first", b"1")
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM coordinator_state").scalar() == 1
    store.close()


def test_writes_are_on_the_disk_when_they_are_acknowledged(mariadb):
    url = mariadb.new_database()
    store = SqlStore(url)
    expected = None
    for number in range(5):
        expected = store.replace(os.urandom(100_000), bytes([number]), expected=expected)
    mariadb.kill()
    mariadb.start()
    assert store.read().version == expected
    assert store.read().key == b"\x04"
    store.close()
