"""Folders of policy as a host and a data owner have them: the project's own documents, and what a mesh wrote down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

MANIFESTS = Path(__file__).parents[2] / "deploy" / "manifests"
VARIANTS = MANIFESTS / "smi-variants"
ALLOWING, ALLOWED = "traffic-access-v1-allow-bookthief.yaml", "traffic-access-v1.yaml"


def mesh(folder: Path, stage: str = "mesh", **state: Any) -> Path:
    """The folder of a mesh that has run."""
    shutil.copytree(MANIFESTS / "smi", folder / "policy")
    write_state(folder, stage=stage, **state)
    return folder


def write_state(folder: Path, **changes: Any) -> None:
    """`changes` over what was there."""
    path = folder / "state.json"
    state = json.loads(path.read_text()) if path.exists() else {"version": 1, "error": None, "sidecars": {}}
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(state | changes))
    unfinished.replace(path)


def smi(folder: Path) -> Path:
    """The owner's folder."""
    return Path(shutil.copytree(MANIFESTS / "smi", folder))


def allow_thief(folder: Path) -> None:
    shutil.copy(VARIANTS / ALLOWING, folder / ALLOWED)


def packages(folder: Path) -> list[object]:
    """Options with a package for each marble, as JSON."""
    given: list[object] = []
    for number, name in enumerate(("bookwarehouse", "bookstore", "bookbuyer", "bookthief"), 1):
        path = folder / f"{name}.json"
        path.write_text(json.dumps({"SignerID": "ab" * 32, "ProductID": number, "SecurityVersion": 1}))
        given += ["--package", f"{name}={path}"]
    return given
