"""MRENCLAVE of the simulated CPU: what runs, down to the interpreter and its standard library.

    MRENCLAVE = SHA-256(tag || SHA-256(interpreter) || SHA-256(standard library) || SHA-256(image))

The interpreter is its executable and, where there is one, its shared library. Of the standard library, everything
counts that an enclave could import; parts that no enclave needs are left out because distributions remove or add them.
The C library and the kernel are not measured, and neither are arguments and environment, as in SGX. Unlike in SGX,
files of the interpreter are measured at the launch and read later: whoever can write them is trusted not to in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.attestation.simulation.bootstrap import NOT_MEASURED
from confidential_bookstore.errors import EnclaveError

TAG = b"confidential-bookstore simulated enclave v1\0"

# Isolated (-I), no site-packages (-S), no byte code that lies on disk, and nothing that depends on the locale.
FLAGS = ("-I", "-S", "-u", "-X", "utf8=1", "-X", "pycache_prefix=/dev/null/none")

_IMPORTABLE = (".py", ".pyc", ".so", ".zip")
_LEFT_OUT = NOT_MEASURED | {"__pycache__", "site-packages", "dist-packages"}
_PROBE = """
import json, os, sys
libraries = [line.split()[-1] for line in open("/proc/self/maps") if "/libpython" in line]
print(json.dumps({"programs": [os.readlink("/proc/self/exe"), *sorted(set(libraries))], "path": sys.path}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """The interpreter that runs enclaves.

    Attributes:
        programs: the executable, and `libpython` if it is linked to one.
        search_path: where it looks for modules: an archive (which rarely exists) and folders.
    """

    programs: tuple[Path, ...]
    search_path: tuple[Path, ...]

    @classmethod
    def current(cls) -> Interpreter:
        """The interpreter that runs this code, without any virtual environment.

        It is asked itself, with the flags that enclaves run under; an interpreter that lies is another program, which
        the measurement shows.

        Raises:
            EnclaveError: it cannot be started.
        """
        executable = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        try:
            said = subprocess.run([executable, *FLAGS, "-c", _PROBE], capture_output=True, check=True, env={}).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise EnclaveError("cannot start the interpreter", got=str(error)) from error
        found = json.loads(said)
        # With -c, the first entry is not the current directory, because of -I.
        return cls(programs=tuple(map(Path, found["programs"])), search_path=tuple(map(Path, found["path"])))

    @property
    def executable(self) -> Path:
        """The program to start."""
        return self.programs[0]


def mr_enclave(*, interpreter: bytes, standard_library: bytes, image: bytes) -> bytes:
    """The measurement, from three SHA-256 digests."""
    return hashlib.sha256(TAG + interpreter + standard_library + image).digest()


def measure(image: bytes, interpreter: Interpreter) -> bytes:
    """Read the machine and measure what would run with this image. Takes about a tenth of a second.

    Raises:
        EnclaveError: something cannot be read.
    """
    try:
        modules = sorted(_modules(interpreter.search_path))
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            image_digest = pool.submit(_digest, image)
            programs = pool.map(_file_digest, interpreter.programs)
            contents = pool.map(_file_digest, (path for _, path in modules))
            return mr_enclave(
                interpreter=_digest(b"".join(programs)),
                standard_library=tree_digest(zip((name for name, _ in modules), contents, strict=True)),
                image=image_digest.result(),
            )
    except OSError as error:
        raise EnclaveError("cannot measure the interpreter", got=str(error)) from error


def tree_digest(files: Iterable[tuple[str, bytes]]) -> bytes:
    """One digest of (name, SHA-256 of the content) pairs, in their order."""
    return _digest(b"".join(_digest(os.fsencode(name)) + content for name, content in files))


def _modules(search_path: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """(name, file): the name is relative to the search path's entry, and says which entry it was."""
    for index, entry in enumerate(search_path):
        if entry.is_file():
            yield f"{index}:", entry
            continue
        for folder, folders, files in os.walk(entry, onerror=_raise_unless_missing, followlinks=True):
            folders[:] = [name for name in folders if name not in _LEFT_OUT]
            for name in files:
                if name.endswith(_IMPORTABLE):
                    path = Path(folder, name)
                    yield f"{index}:{path.relative_to(entry)}", path


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _file_digest(path: Path) -> bytes:
    return _digest(path.read_bytes())
