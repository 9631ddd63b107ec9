"""The journal keeps every acknowledged record through a crash, and takes nothing that it did not write."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confidential_bookstore.errors import SealedStateError, StoreUnavailable
from confidential_bookstore.marble.journal import Journal

KEY = bytes(range(32))
RECORDS = [b"first", b"", b"third record, a little longer"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def written(path: Path, records=RECORDS) -> list[int]:
    """Writes records and returns the file's size after the header and after each of them."""
    with Journal(path, KEY) as journal:
        sizes = [path.stat().st_size]
        for index, record in enumerate(records):
            assert journal.append(record) == index
            sizes.append(path.stat().st_size)
    return sizes


def read(path: Path) -> list[bytes]:
    with Journal(path, KEY) as journal:
        return list(journal)


def test_records_are_there_after_reopening(path):
    written(path)
    with Journal(path, KEY) as journal:
        assert (list(journal), len(journal)) == (RECORDS, 3)
        assert journal.append(b"fourth") == 3
        assert list(journal) == [*RECORDS, b"fourth"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_records_are_not_readable_in_the_file(path):
    written(path)
    assert b"third" not in path.read_bytes()


def test_crash_at_any_byte_loses_at_most_the_record_that_was_not_acknowledged(path):
    sizes = written(path)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = sum(size <= length for size in sizes) - 1 if length >= sizes[0] else 0
        assert read(path) == RECORDS[:complete], length
        with Journal(path, KEY) as journal:
            assert journal.append(b"after the crash") == complete
        assert read(path) == [*RECORDS[:complete], b"after the crash"]


def test_every_flipped_bit_is_found(path):
    written(path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(SealedStateError):
            Journal(path, KEY)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_any_records_and_any_crash(records, data):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        sizes = written(path, records)
        cut = data.draw(st.integers(sizes[0], sizes[-1]))
        os.truncate(path, cut)
        assert read(path) == records[: sum(size <= cut for size in sizes) - 1]


def test_records_cannot_be_swapped_repeated_or_taken_from_another_journal(path, tmp_path):
    sizes = written(path, [b"aaaa", b"bbbb"])
    other = tmp_path / "other"
    written(other, [b"aaaa", b"bbbb"])
    whole, foreign = path.read_bytes(), other.read_bytes()
    header, first, second = whole[: sizes[0]], whole[sizes[0] : sizes[1]], whole[sizes[1] :]
    for forged in (
        header + second + first,
        header + first + first,
        header + second,
        header + foreign[sizes[0] :],
        header + first + foreign[sizes[1] :],
    ):
        path.write_bytes(forged)
        with pytest.raises(SealedStateError, match="does not verify"):
            Journal(path, KEY)


def test_another_key(path):
    written(path)
    with pytest.raises(SealedStateError, match="does not verify"):
        Journal(path, bytes(32))
    with pytest.raises(SealedStateError, match="length"):
        Journal(path, b"short")


def test_a_file_of_another_kind_is_left_alone(path):
    path.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(SealedStateError, match="not a journal"):
        Journal(path, KEY)
    assert path.read_bytes() == b"#!/bin/sh\n"


def test_one_at_a_time(path):
    with Journal(path, KEY), pytest.raises(SealedStateError, match="open elsewhere"):
        Journal(path, KEY)
    Journal(path, KEY).close()


def test_unwritable_place(tmp_path):
    with pytest.raises(StoreUnavailable):
        Journal(tmp_path / "missing" / "journal", KEY)


FULL_DISK = """
import resource, signal, sys
from confidential_bookstore.errors import StoreUnavailable
from confidential_bookstore.marble.journal import Journal

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(sys.argv[1], bytes(range(32)))
journal.append(b"kept")
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    journal.append(bytes(10_000))
except StoreUnavailable:
    sys.exit(0 if journal.append(b"small") == 1 else 2)
sys.exit(1)
"""


def test_a_full_disk_leaves_the_journal_as_it_was(path):
    """A limit on the size of files stands in for a full disk; it holds for a whole process, so it gets its own."""
    subprocess.run([sys.executable, "-c", FULL_DISK, path], check=True, timeout=30)
    assert read(path) == [b"kept", b"small"]


def test_record_of_absurd_size(path):
    with Journal(path, KEY) as journal, pytest.raises(SealedStateError, match="too large"):
        journal.append(bytes(16 * 1024 * 1024 + 1))
