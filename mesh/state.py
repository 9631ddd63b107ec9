"""What a mesh says of itself in `state.json`, for `cbs mesh status`, pages and scripts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

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


def _written(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
