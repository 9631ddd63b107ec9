"""The program that a marble becomes, and what passes on to it: arguments, environment, and three open files.

In an enclave on the simulated CPU the program is a file of the host's, and no part of the image. Therefore the image's
configuration must name it, which the measurement covers:

    "env": [{"name": "CBS_PROGRAM_SHA256", "value": "<hex>"}]

It is copied into sealed memory, compared, and run from there. It must be a native program: of a script, only the text
would be measured and not its interpreter. Arguments come from the manifest alone. Shared libraries that the program
loads are the host's: link it statically where that matters. Under Gramine none of this is needed: there, the program
and its libraries are trusted files of Gramine's manifest, and so measured by Gramine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from confidential_bookstore.attestation.enclave import EnclaveConfig
from confidential_bookstore.attestation.platforms.simulated import SOCKET_VARIABLE
from confidential_bookstore.errors import ConfigurationError

PROGRAM_VARIABLE = "CBS_PROGRAM_SHA256"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Program:
    """Something to run: a path, or the descriptor of a measured copy. `name` is how it was called."""

    name: str
    file: Path | int

    @property
    def measured(self) -> bool:
        """Whether the enclave's measurement covers it."""
        return isinstance(self.file, int)

    def arguments(self, command: Sequence[str], argv: Sequence[str]) -> list[str]:
        """What the program is told: the manifest's Argv if there is one (all of it), else the command line.

        Raises:
            ConfigurationError: a measured program would get arguments of the host's.
        """
        if argv:
            return list(argv)
        if self.measured and len(command) > 1:
            raise ConfigurationError(
                "the program's arguments are the host's, and not measured",
                got=f"{len(command) - 1} arguments",
                hint="put them into Argv of the manifest, with the program's name first",
            )
        return list(command)

    def become(self, arguments: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
        """Replaces this process. Nothing but the three standard streams is inherited.

        Raises:
            ConfigurationError: the program cannot be run.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        _inherit_only_standard_streams()
        for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, and what is ignored stays so
            signal.signal(ignored, signal.SIG_DFL)
        try:
            os.execve(self.file, list(arguments), dict(environ))  # noqa: S606  # that is what this is for
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError("cannot run the program", got=f"{self.name}: {reason}") from error


def find_program(name: str, environ: Mapping[str, str]) -> Path:
    """Where the program is: a path, or a name to be looked for in PATH.

    Raises:
        ConfigurationError: it is nowhere, or not executable.
    """
    found = shutil.which(name, path=environ.get("PATH", os.defpath))
    if found is None:
        raise ConfigurationError("there is no such program", got=name)
    return Path(found)


def fixed_digest(config: EnclaveConfig) -> str:
    """The SHA-256 that an enclave's configuration fixes for its program, in hex.

    Raises:
        ConfigurationError: it fixes none.
    """
    for variable in config.env:
        if variable.name == PROGRAM_VARIABLE and variable.value and not variable.from_host:
            return variable.value.lower()
    raise ConfigurationError(
        "this enclave does not say which program it runs, so that its measurement would not cover the program",
        hint=f'add {{"name": "{PROGRAM_VARIABLE}", "value": "<SHA-256 of the program>"}} to "env" in enclave.json',
    )


def measured_program(name: str, path: Path, digest: str) -> Program:
    """A sealed copy in memory of the program with this SHA-256 (hex).

    Raises:
        ConfigurationError: it is another one, a script, or cannot be read.
    """
    descriptor = os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with path.open("rb") as file, os.fdopen(descriptor, "wb", closefd=False) as copy:
            shutil.copyfileobj(file, copy, _CHUNK)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        with os.fdopen(os.dup(descriptor), "rb") as sealed:
            sealed.seek(0)
            script = sealed.read(2) == b"#!"
            sealed.seek(0)
            found = hashlib.file_digest(sealed, "sha256").hexdigest()
        if found != digest:
            raise ConfigurationError(
                "this is not the program that the enclave was signed for", got=found, expected=digest
            )
        if script:
            raise ConfigurationError("a script's interpreter is not measured", got=name, expected="a native program")
    except OSError as error:
        os.close(descriptor)
        raise ConfigurationError("cannot read the program", got=f"{path}: {error.strerror}") from error
    except ConfigurationError:
        os.close(descriptor)
        raise
    return Program(name, descriptor)


def passed_on(environ: Mapping[str, str], manifest: Mapping[str, str]) -> dict[str, str]:
    """The program's environment: this process's and the manifest's, which wins; without the way to the CPU."""
    return {name: value for name, value in (dict(environ) | dict(manifest)).items() if name != SOCKET_VARIABLE}


def _inherit_only_standard_streams() -> None:
    """The simulated CPU's socket speaks for this enclave; and what was open for us is nobody else's business."""
    for path in Path("/proc/self/fd").iterdir():
        if int(path.name) > 2:
            try:
                os.set_inheritable(int(path.name), False)
            except OSError:  # the one that listed the directory
                continue
