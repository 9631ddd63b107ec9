"""One control plane for one folder: two would take turns in undoing what the other does.

The lock is the kernel's, and goes with the process that holds it, however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from confidential_bookstore.errors import ConfigurationError, MeshError

_FILE = "lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder.

    Raises:
        MeshError: another control plane has it.
        ConfigurationError: the folder cannot be written.
    """
    try:
        file = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError("the folder cannot be written", got=f"{folder}: {error.strerror}") from error
    try:
        if not _take(file):
            raise MeshError(
                "another control plane runs in this folder", got=folder, hint="stop it first, or take another folder"
            )
        yield
    finally:
        os.close(file)


def is_held(folder: Path) -> bool:
    """Whether a control plane runs there."""
    try:
        file = os.open(folder / _FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _take(file)
    finally:
        os.close(file)


def _take(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
