"""What a mesh says of itself in `state.json`, for `cbs mesh status`, pages and scripts."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confidential_bookstore.errors import ConfigurationError
from mesh.folder import STATE

if TYPE_CHECKING:
    from mesh.controller import MeshController


def state_of(mesh: MeshController) -> dict[str, Any]:
    """As JSON: times are RFC 3339, `version` is null before the first policy is in force."""
    config = mesh.compiled.policy.documents.config if mesh.compiled else None
    return {
        "stage": "confidential" if mesh.seal else "mesh",
        "permissive": config.permissive if config else False,
        "version": mesh.version or None,
        "inForceSince": _written(mesh.since),
        "error": {"message": mesh.error[0], "since": _written(mesh.error[1])} if mesh.error else None,
        "sidecars": {
            key: {
                "pid": sidecar.pid,
                "ready": sidecar.ready,
                "restarts": sidecar.restarts,
                "certificateExpires": _written(mesh.certificates[key].not_after),
                "version": sidecar.version,
            }
            for key, sidecar in sorted(mesh.sidecars.items())
        },
        "refusals": [dataclasses.asdict(refusal) for refusal in mesh.refusals.latest()],
    }


def read_state(folder: Path) -> dict[str, Any]:
    """What the mesh of a folder last wrote down.

    Raises:
        ConfigurationError: none has run there, or it is no state of a mesh.
    """
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_bytes())
        _ = state["stage"], state["version"], state["error"], state["sidecars"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            "no mesh has run in this folder, so nobody knows what its sidecars do",
            got=folder / STATE,
            hint="start one: `cbs mesh run FOLDER --stage ...`",
        ) from error
    return state


def _written(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
