"""Where the keys of a simulated platform are kept: one JSON file that only its owner can read.

A directory holds one platform for good. Writing is atomic and never replaces one that is there, because sealed data of
its enclaves would be lost with it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from confidential_bookstore.errors import ConfigurationError

PLATFORM_FILE = "platform.json"
ROOT_FILE = "root.pem"
FORMAT = 1


def write(directory: Path, document: Mapping[str, object], root_pem: bytes) -> None:
    """Write both files (mode 0600) into `directory` (made if needed, mode 0700).

    Raises:
        ConfigurationError: a platform is there already, or the directory cannot be written.
    """
    target = directory / PLATFORM_FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        staged = _staged(directory, json.dumps({"format": FORMAT, **document}, indent=2).encode() + b"\n")
        try:
            os.link(staged, target)  # unlike a rename, fails if the target exists
        finally:
            staged.unlink()
        _staged(directory, root_pem).replace(directory / ROOT_FILE)
        _sync_directory(directory)
    except FileExistsError as error:
        raise ConfigurationError(
            "there is something in the platform's place already",
            got=target,
            hint="keep it, or choose another directory",
        ) from error
    except OSError as error:
        raise ConfigurationError("cannot write the simulated platform", got=str(error)) from error


def read(directory: Path) -> dict[str, object]:
    """The document that `write` got.

    Raises:
        ConfigurationError: there is none, or it is damaged.
    """
    path = directory / PLATFORM_FILE
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigurationError(
            "no simulated platform", got=directory, hint="make one: `cbs platform init DIR`"
        ) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}", got=str(error)) from error
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise ConfigurationError(f"{path} is not a simulated platform", expected=f"a JSON object of format {FORMAT}")
    return document


def _staged(directory: Path, content: bytes) -> Path:
    """A durable temporary file of mode 0600 next to its future place."""
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=".staged-")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
