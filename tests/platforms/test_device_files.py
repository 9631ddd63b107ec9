"""One write is one system call."""

import os
import resource
import threading
from pathlib import Path

import pytest

from confidential_bookstore.attestation.platforms.device_files import DeviceFiles


def test_one_write_and_everything_read(tmp_path):
    path = tmp_path / "device"
    path.write_bytes(b"")
    DeviceFiles().write(path, bytes(200_000))
    assert DeviceFiles().read(path) == bytes(200_000)


def test_a_device_that_answers_in_parts_is_read_to_its_end(tmp_path):
    path = tmp_path / "device"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(bytes(200_000),))
    writer.start()
    assert DeviceFiles().read(path) == bytes(200_000)
    writer.join()


def test_a_device_that_takes_less_is_an_error(tmp_path):
    path = tmp_path / "device"
    path.write_bytes(b"")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))  # the kernel then takes ten bytes of a write
    try:
        with pytest.raises(OSError, match=r"short write.*10 of 64"):
            DeviceFiles().write(path, bytes(64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_device_that_takes_nothing_is_an_error():
    with pytest.raises(OSError, match="No space left"):
        DeviceFiles().write(Path("/dev/full"), bytes(64))
