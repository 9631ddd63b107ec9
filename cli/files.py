"""Files that commands read and write. What is written may be confidential: mode 0600, always."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from confidential_bookstore.errors import ConfigurationError

OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write it to a file (mode 0600) and not to the terminal.", metavar="FILE")
]


def read_file(path: str | Path, what: str) -> bytes:
    """The content; `what` says in errors which file it should have been.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {what}", got=f"{path}: {error.strerror}") from error


def write_file(path: Path, content: bytes) -> None:
    """Write it, in place of what is there.

    Raises:
        ConfigurationError: it cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
    except OSError as error:
        raise ConfigurationError("cannot write", got=f"{path}: {error.strerror}") from error


def write_or_print(content: bytes, out: Path | None) -> None:
    """To the file, or else to standard output as it is."""
    if out is not None:
        write_file(out, content)
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


@contextlib.contextmanager
def reserved(path: Path | None) -> Iterator[BinaryIO | None]:
    """A new file for something that the coordinator says only once: made before it is asked, removed if empty.

    Raises:
        ConfigurationError: the file exists already, or cannot be made.
    """
    if path is None:
        yield None
        return
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError as error:
        raise ConfigurationError(
            "the file exists already", got=path, hint="it is not overwritten; give another"
        ) from error
    except OSError as error:
        raise ConfigurationError("cannot write", got=f"{path}: {error.strerror}") from error
    try:
        with file:
            yield file
    finally:
        if path.stat().st_size == 0:
            path.unlink()
