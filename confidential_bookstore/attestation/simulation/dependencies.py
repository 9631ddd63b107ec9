"""Which installed files belong into an enclave image: the project's dependencies, and all that they need in turn."""

from __future__ import annotations

import importlib.metadata
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from confidential_bookstore.errors import ConfigurationError

# What a program needs at run time of the folder that describes an installed distribution.
_METADATA_FILES = frozenset({"METADATA", "entry_points.txt"})
_NOT_FOR_RUNNING = (".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".hash", ".pyc", "py.typed")
_TEST_FOLDERS = frozenset({"tests"})


@dataclass(frozen=True, slots=True)
class InstalledFile:
    """A file of a distribution: its name below site-packages, and where it is."""

    name: str
    path: Path


def requirements(project_root: Path, extra: str) -> list[Requirement]:
    """The project's own requirements and those of one extra, from `pyproject.toml`.

    Raises:
        ConfigurationError: the file cannot be read or has no such extra.
    """
    path = project_root / "pyproject.toml"
    try:
        project: dict[str, Any] = tomllib.loads(path.read_text())["project"]
        extras: dict[str, list[str]] = project.get("optional-dependencies", {})
        if extra not in extras:
            raise ConfigurationError(f"{path} has no such extra", got=extra, expected=f"one of {sorted(extras)}")
        return [Requirement(line) for line in (*project.get("dependencies", []), *extras[extra])]
    except (OSError, KeyError, ValueError, InvalidRequirement) as error:
        raise ConfigurationError(f"cannot read the requirements in {path}", got=repr(error)) from error


def closure(wanted: Sequence[Requirement]) -> dict[str, importlib.metadata.Distribution]:
    """What is installed for these requirements and for all that they require in turn, by normalised name.

    Raises:
        ConfigurationError: one of them is not installed, or in the wrong version.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    done: set[tuple[str, str]] = set()
    queue = [(requirement, "") for requirement in wanted]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = _installed(requirement)
        for wanted_extra in ("", *requirement.extras):
            if (name, wanted_extra) not in done:
                done.add((name, wanted_extra))
                queue += [(Requirement(line), wanted_extra) for line in found[name].requires or ()]
    return found


def files(distribution: importlib.metadata.Distribution) -> Iterator[InstalledFile]:
    """The files of a distribution that a program needs to run.

    Raises:
        ConfigurationError: the distribution does not say which files it has, or one of them is missing.
    """
    if distribution.files is None:
        raise ConfigurationError(
            "an installed distribution has no list of its files",
            got=distribution.name,
            hint="install it again with pip",
        )
    for entry in distribution.files:
        name = PurePosixPath(entry)
        if not _runs(name):
            continue
        path = Path(str(distribution.locate_file(entry)))
        if not path.is_file():
            raise ConfigurationError("a file of an installed distribution is missing", got=path)
        yield InstalledFile(str(name), path)


def _installed(requirement: Requirement) -> importlib.metadata.Distribution:
    try:
        distribution = importlib.metadata.distribution(requirement.name)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigurationError(
            "a dependency of the enclave is not installed", got=requirement.name, hint="run `make .venv/.runtime`"
        ) from error
    if not requirement.specifier.contains(distribution.version, prereleases=True):
        raise ConfigurationError(
            f"the installed {requirement.name} does not fit", got=distribution.version, expected=requirement.specifier
        )
    return distribution


def _runs(name: PurePosixPath) -> bool:
    if name.is_absolute() or ".." in name.parts or "__pycache__" in name.parts:
        return False
    if name.parts[0].endswith(".dist-info"):
        return name.parts[1:] in {(file,) for file in _METADATA_FILES}
    return not name.name.endswith(_NOT_FOR_RUNNING) and not _TEST_FOLDERS.intersection(name.parts[:-1])
