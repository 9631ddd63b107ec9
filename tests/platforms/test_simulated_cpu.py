"""The inside of the simulated CPU's socket: broken launchers."""

import os
import socket
from pathlib import Path

import pytest

from confidential_bookstore.attestation.platforms import SealPolicy, simulated
from confidential_bookstore.attestation.platforms.simulated import SimulatedCpu
from confidential_bookstore.errors import CounterUnavailable, PlatformError, SealingUnavailable


@pytest.fixture
def launcher():
    """(the launcher's end, the enclave's platform)"""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    platform = SimulatedCpu(theirs)
    with ours:
        yield ours, platform
    platform.close()


def test_a_launcher_that_is_gone(launcher):
    ours, platform = launcher
    ours.close()
    with pytest.raises(PlatformError, match="simulated CPU"):
        platform.quote(bytes(64))


def test_a_late_answer_is_never_taken_for_another_s(launcher, monkeypatch):
    ours, platform = launcher
    platform._connection.settimeout(0.05)
    with pytest.raises(PlatformError, match="does not answer"):
        platform.quote(b"a" * 64)
    with pytest.raises(BrokenPipeError):
        ours.send(b"quote over a")
    with pytest.raises(PlatformError, match="simulated CPU"):
        platform.quote(b"b" * 64)


def test_an_answer_that_is_no_key(launcher):
    ours, platform = launcher
    ours.send(bytes(31))
    with pytest.raises(SealingUnavailable, match="31 bytes"):
        platform.sealing_key(SealPolicy.UNIQUE_KEY)


def test_a_machine_that_cannot_count(launcher):
    ours, platform = launcher
    ours.send(simulated.NOT_COUNTED)
    with pytest.raises(PlatformError, match="cannot keep its counters") as refused:
        platform.raise_counter(bytes(32), 1)
    assert not isinstance(refused.value, CounterUnavailable)  # which would mean that nobody ever has to count


@pytest.mark.parametrize("number", ["", "x", "-1", "1e3", "99999", str(2**70)])
def test_a_number_that_is_no_socket(number):
    with pytest.raises(PlatformError, match=simulated.SOCKET_VARIABLE):
        SimulatedCpu.from_descriptor(number)


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_descriptor_that_is_no_socket(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    before = open_descriptors()
    with pytest.raises(PlatformError, match=simulated.SOCKET_VARIABLE):
        SimulatedCpu.from_descriptor(str(descriptor))
    assert open_descriptors() == before
    os.close(descriptor)
