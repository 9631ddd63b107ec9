"""Contexts: named deployments, so that no command needs its connection arguments again.

One JSON file, mode 0600, with addresses and paths only; keys and certificates stay in files of their own.

    {"current": NAME, "contexts": {NAME: {"coordinator": "host:port", "policy": PATH, ...}}}

A root certificate that was verified once is kept beside it as NAME.root.pem: the deployment's identity from then on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confidential_bookstore.errors import ConfigurationError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATHS = {"policy", "root", "trust_root", "collateral", "user_cert", "user_key", "mesh", "smi"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """How to reach a deployment, and by what to know it. Empty means not given; paths are absolute when stored.

    Attributes:
        coordinator: the client API, `host:port`.
        policy: the code that the coordinator must run (see `policy`).
        root: its root certificate in PEM, if that is known beforehand.
        trust_root: under which its quote must verify; Intel's if not given.
        pccs: URL of a PCCS, or `collateral`: a directory with collateral.
        user_cert: certificate of a user of the manifest, with `user_key`.
        metrics: the coordinator's page for operators, `host:port`.
        mesh: the folder of the host's mesh (see `cbs mesh run`).
        smi: the data owner's folder of SMI documents, of which the manifest's policy is made.
    """

    coordinator: str = ""
    policy: str = ""
    root: str = ""
    trust_root: str = ""
    pccs: str = ""
    collateral: str = ""
    user_cert: str = ""
    user_key: str = ""
    metrics: str = ""
    mesh: str = ""
    smi: str = ""

    def override(self, **given: str | None) -> Context:
        """With those that are given (not None) in place of its own. A PCCS and a directory replace each other."""
        changes = {name: value for name, value in given.items() if value is not None}
        for name, other in (("pccs", "collateral"), ("collateral", "pccs")):
            if changes.get(name) and other not in changes:
                changes[other] = ""
        return dataclasses.replace(self, **changes)

    def absolute(self) -> Context:
        """With absolute paths, to be used from other folders."""
        paths = {name: getattr(self, name) for name in _PATHS}
        return dataclasses.replace(self, **{name: str(Path(path).absolute()) for name, path in paths.items() if path})


@dataclass(slots=True)
class Contexts:
    """The file. Change it, then `save`."""

    path: Path
    current: str
    by_name: dict[str, Context]

    @classmethod
    def load(cls, path: Path) -> Contexts:
        """A file that is not there is an empty one.

        Raises:
            ConfigurationError: it cannot be read.
        """
        try:
            document = json.loads(path.read_bytes())
            by_name = {name: Context(**_texts(fields)) for name, fields in document["contexts"].items()}
            current = str(document["current"])
        except FileNotFoundError:
            return cls(path, "", {})
        except OSError as error:
            raise ConfigurationError("contexts cannot be read", got=f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ConfigurationError("contexts cannot be read", got=f"{path}: {error}") from error
        return cls(path, current, by_name)

    def save(self) -> None:
        """Replaces the file in one step.

        Raises:
            ConfigurationError: it cannot be written.
        """
        contexts = {name: _given(context) for name, context in sorted(self.by_name.items())}
        document = {"current": self.current, "contexts": contexts}
        _write(self.path, (json.dumps(document, indent=2) + "\n").encode())

    def named(self, name: str) -> Context:
        """One of them.

        Raises:
            ConfigurationError: there is none of that name.
        """
        if name not in self.by_name:
            known = " or ".join(sorted(self.by_name)) or None
            raise ConfigurationError(
                "there is no such context", got=repr(name), expected=known, hint="make it with `cbs context set`"
            )
        return self.by_name[name]

    def pinned_root(self, name: str) -> Path:
        """Where the verified root certificate of a context is kept."""
        return self.path.parent / f"{name}.root.pem"

    def pin(self, name: str, root_pem: bytes) -> None:
        """Keep a root certificate that has been verified.

        Raises:
            ConfigurationError: it cannot be written.
        """
        _write(self.pinned_root(name), root_pem)


def require_name(name: str) -> str:
    """The name, if it may be one: it becomes a part of a file's name.

    Raises:
        ConfigurationError: it may not.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError("not a name for a context", got=repr(name), expected="letters, digits, . _ -")
    return name


def _texts(fields: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in fields.values()):
        raise TypeError("a field is not text")
    return dict(fields)


def _given(context: Context) -> dict[str, str]:
    return {name: value for name, value in dataclasses.asdict(context).items() if value}


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        new.replace(path)
    except OSError as error:
        raise ConfigurationError("cannot write", got=f"{path}: {error.strerror}") from error
