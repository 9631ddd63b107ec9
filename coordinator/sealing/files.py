"""The few operations on files whose order matters when the power may fail at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class FileSystem(Protocol):
    """All raise `OSError`. Tests cut them off at every point."""

    def read(self, path: Path) -> bytes | None:
        """The whole file; None if there is none."""
        ...

    def write(self, path: Path, content: bytes) -> None:
        """A new file in place of any other, mode 0600, durable on return except for its name."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Replaces `new` in one step."""
        ...

    def remove(self, path: Path) -> None:
        """Removes the file if there is one."""
        ...

    def sync(self, directory: Path) -> None:
        """Makes the names in a directory durable."""
        ...


class DiskFiles:
    """The file system itself."""

    def read(self, path: Path) -> bytes | None:
        """See `FileSystem`."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: Path, content: bytes) -> None:
        """See `FileSystem`; makes the directory, mode 0700, if need be."""
        self.make_directory(path.parent)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """See `FileSystem`."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """See `FileSystem`."""
        path.unlink(missing_ok=True)

    def sync(self, directory: Path) -> None:
        """See `FileSystem`."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, directory: Path) -> None:
        """With its parents, mode 0700, durable; nothing happens if it is there."""
        if not directory.is_dir():
            self.make_directory(directory.parent)
            directory.mkdir(mode=0o700, exist_ok=True)
            self.sync(directory.parent)
