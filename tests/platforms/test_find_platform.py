"""Which platform is found, and in which order."""

import socket

import pytest

from confidential_bookstore.attestation.platforms import find_platform
from confidential_bookstore.attestation.platforms.gramine import GraminePlatform
from confidential_bookstore.attestation.platforms.simulated import SimulatedCpu
from confidential_bookstore.attestation.platforms.tdx import TdxPlatform
from confidential_bookstore.errors import NoPlatform, PlatformError


@pytest.fixture
def inherited():
    """The environment of an enclave on the simulated CPU."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield {"CBS_SIMULATED_CPU": str(theirs.fileno())}


def test_none(tmp_path):
    with pytest.raises(NoPlatform) as none:
        find_platform({}, tmp_path)
    assert "cbs enclave run" in none.value.hint


def test_each(tmp_path, inherited):
    (tmp_path / "sys/kernel/config/tsm/report").mkdir(parents=True)
    assert isinstance(find_platform({}, tmp_path), TdxPlatform)
    cpu = find_platform(inherited, tmp_path)
    assert isinstance(cpu, SimulatedCpu)
    cpu.close()
    (tmp_path / "dev/attestation").mkdir(parents=True)
    assert isinstance(find_platform({}, tmp_path), GraminePlatform)


def test_a_variable_does_not_turn_hardware_into_a_simulation(tmp_path, inherited):
    (tmp_path / "dev/attestation").mkdir(parents=True)
    assert isinstance(find_platform(inherited, tmp_path), GraminePlatform)


def test_a_wrong_variable_is_an_error_not_another_platform(tmp_path):
    (tmp_path / "sys/kernel/config/tsm/report").mkdir(parents=True)
    with pytest.raises(PlatformError, match="CBS_SIMULATED_CPU"):
        find_platform({"CBS_SIMULATED_CPU": "9999"}, tmp_path)
