"""The four things that attestation devices which look like files need, each as one system call.

The kernel gives meaning to every single `write` and to `mkdir` and `rmdir` in these places, so nothing is buffered.
"""

from __future__ import annotations

import os
from pathlib import Path


class DeviceFiles:
    """The real ones; tests subclass it to behave like a kernel on an ordinary folder."""

    def mkdir(self, path: Path) -> None:
        """Make a directory, which configfs fills with attributes."""
        path.mkdir()

    def rmdir(self, path: Path) -> None:
        """Remove a directory, which in configfs removes its attributes too."""
        path.rmdir()

    def write(self, path: Path, data: bytes) -> None:
        """Exactly one `write`.

        Raises:
            OSError: not everything was written, or the device refused it.
        """
        descriptor = os.open(path, os.O_WRONLY)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if written != len(data):
            raise OSError(f"short write to {path}: {written} of {len(data)} bytes")

    def read(self, path: Path) -> bytes:
        """Everything up to the end of the file."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            parts = []
            while part := os.read(descriptor, 1 << 16):
                parts.append(part)
        finally:
            os.close(descriptor)
        return b"".join(parts)
