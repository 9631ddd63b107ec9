"""The folder that says what a mesh has to do: `policy/*.yaml` and `layout.json`. Read as a whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.errors import ConfigurationError, PolicyError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.reading import SUFFIXES, folder_texts, read_texts
from confidential_bookstore.policy.smi.resolving import sealed
from mesh.compiler import Layout, Resources, compile_sidecar, read_layout

POLICY, LAYOUT, STATE, RUN, AUTHORITY = "policy", "layout.json", "state.json", "run", "authority"


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a folder says, and what each sidecar has to do about it."""

    policy: Policy
    layout: Layout
    sidecars: dict[str, Resources]


def compile_folder(folder: Path, *, seal: bool) -> Compiled:
    """Reads and compiles everything.

    Args:
        folder: of the mesh.
        seal: whether what marbles say is attested TLS from end to end.

    Raises:
        PolicyError: a document breaks a rule.
        ConfigurationError: something cannot be read, or the layout does not fit.
        MeshError: the policy asks for what this mesh cannot do.
    """
    texts = folder_texts(folder / POLICY)
    for name, text in texts.items():
        _refuse_half_written(name, text)
    documents = read_texts(texts)
    if seal:
        documents = sealed(documents)
    try:
        layout_text = (folder / LAYOUT).read_text()
    except (OSError, ValueError) as error:
        raise ConfigurationError("the layout cannot be read", got=f"{folder / LAYOUT}: {error}") from error
    layout = read_layout(layout_text, documents.services)
    policy = Policy(documents)
    return Compiled(policy, layout, {key: compile_sidecar(policy, layout, key) for key in layout.services})


def _refuse_half_written(name: str, text: str) -> None:
    """A document that is cut off can grant more than the whole: a rule without its last lines has no matches.

    JSON that is cut off is no JSON.

    Raises:
        PolicyError: the last line has no end.
    """
    if text and not text.endswith("\n") and not name.endswith(".json"):
        raise PolicyError(
            f"{name}:{text.count(chr(10)) + 1}",
            "",
            "the last line has no end; is the file half-written?",
            hint="end it with a newline; a file that is renamed into its place is never seen in parts",
        )


def fingerprint(folder: Path) -> str:
    """Changes whenever a file has: by name, size, time and inode."""
    digest = hashlib.sha256()
    try:
        files = [path for path in sorted((folder / POLICY).iterdir()) if path.suffix in SUFFIXES]
    except OSError as error:
        files = []
        digest.update(str(error.errno).encode())
    for path in (*files, folder / LAYOUT):
        try:
            seen = path.stat()
        except OSError as error:
            digest.update(f"{path.name} {error.errno}\n".encode())
            continue
        digest.update(f"{path.name} {seen.st_size} {seen.st_mtime_ns} {seen.st_ino}\n".encode())
    return digest.hexdigest()
