"""Counters of a simulated machine: whose they are, and that nothing makes them go down."""

import dataclasses
import json
import os
import stat
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.attestation.simulation import counters
from confidential_bookstore.attestation.simulation.counters import COUNTERS_FILE, MonotonicCounters
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.launcher import _count
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.errors import PlatformError

OWNER = EnclaveIdentity(mr_enclave=b"e" * 32, mr_signer=b"s" * 32, product_id=3, security_version=1)
COUNTER = bytes(range(32))


def in_folder(folder):
    kept = MonotonicCounters()
    kept.keep_in(folder)
    return kept


@pytest.mark.parametrize("change", [{"mr_signer": b"t" * 32}, {"product_id": 4}, {"debug": True}])
def test_another_product_has_other_counters(change):
    machine = MonotonicCounters()
    machine.raise_to(OWNER, COUNTER, 7)
    assert machine.raise_to(dataclasses.replace(OWNER, **change), COUNTER, 1) == 0


@pytest.mark.parametrize("change", [{"mr_enclave": b"f" * 32}, {"security_version": 2}])
def test_another_version_has_the_same_counters(change):
    machine = MonotonicCounters()
    machine.raise_to(OWNER, COUNTER, 7)
    assert machine.raise_to(dataclasses.replace(OWNER, **change), COUNTER, 1) == 7


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_it_is_the_largest_value_so_far(values):
    machine = MonotonicCounters()
    for index, value in enumerate(values):
        assert machine.raise_to(OWNER, COUNTER, value) == max([0, *values[:index]])


def test_they_are_kept_with_a_saved_machine(tmp_path):
    machine = SimulatedPlatform.create()
    machine.raise_counter(OWNER, COUNTER, 3)
    machine.save(tmp_path)
    machine.raise_counter(OWNER, COUNTER, 4)
    machine.raise_counter(OWNER, bytes(32), 1)
    loaded = SimulatedPlatform.load(tmp_path)
    assert loaded.raise_counter(OWNER, COUNTER, 9) == 4
    assert loaded.raise_counter(OWNER, bytes(32), 1) == 1
    assert machine.raise_counter(OWNER, COUNTER, 1) == 9
    assert stat.S_IMODE((tmp_path / COUNTERS_FILE).stat().st_mode) == 0o600
    assert not list(tmp_path.glob(".counters-*"))


def test_a_machine_that_was_only_created_counts_in_memory():
    machine = SimulatedPlatform.create()
    assert [machine.raise_counter(OWNER, COUNTER, value) for value in (2, 1, 3)] == [0, 2, 2]
    assert SimulatedPlatform.create().raise_counter(OWNER, COUNTER, 1) == 0


RACE = """
import pathlib, sys
from confidential_bookstore.attestation.simulation.counters import MonotonicCounters
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
owner = EnclaveIdentity(mr_enclave=bytes(32), mr_signer=bytes(32), product_id=1, security_version=1)
kept = MonotonicCounters()
kept.keep_in(pathlib.Path(sys.argv[1]))
first = int(sys.argv[2])
for step in range(40):
    kept.raise_to(owner, bytes([first]) * 32, step + 1)
    kept.raise_to(owner, b"common".ljust(32), first * 1000 + step)
"""


def test_launchers_of_one_machine_do_not_lose_each_others_counts(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", RACE, tmp_path, str(number)]) for number in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    counts = json.loads((tmp_path / COUNTERS_FILE).read_bytes())
    assert sorted(counts.values()) == [40, 40, 40, 2039]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": -1}', b'{"a": true}', b'{"a": "1"}', b"{"])
def test_damaged_counters_do_not_begin_anew(tmp_path, content):
    (tmp_path / COUNTERS_FILE).write_bytes(content)
    with pytest.raises(PlatformError, match="damaged"):
        in_folder(tmp_path).raise_to(OWNER, COUNTER, 1)
    assert (tmp_path / COUNTERS_FILE).read_bytes() == content


def test_a_count_that_cannot_be_kept_is_an_error_for_the_enclave_too(tmp_path, monkeypatch):
    machine = SimulatedPlatform.create()
    machine.save(tmp_path)
    machine.raise_counter(OWNER, COUNTER, 1)

    def full(descriptor):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as broken:
        broken.setattr(counters.os, "fsync", full)
        with pytest.raises(PlatformError, match="No space left"):
            machine.raise_counter(OWNER, COUNTER, 2)
        assert _count(machine, OWNER, COUNTER, 2) == b"\0"
    assert machine.raise_counter(OWNER, COUNTER, 2) == 1
    assert not list(tmp_path.glob(".counters-*"))
