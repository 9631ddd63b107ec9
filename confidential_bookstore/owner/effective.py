"""The manifest that is really in force: the last full manifest, with the SecurityVersions that were raised since.

The coordinator gives out the manifest as it was uploaded. Package updates are in its update log only, and lines that
are older than the last full manifest no longer count: a new manifest states its SecurityVersions itself.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from confidential_bookstore.errors import CoordinatorUnavailable
from confidential_bookstore.owner.answers import SignedManifest

_FULL = {"Initial manifest set", "Complete Manifest updated"}
_RAISED = "SecurityVersion increased"


def raised_versions(manifest: SignedManifest, log: Sequence[str]) -> dict[str, int]:
    """SecurityVersions by package that were raised after the manifest came into force.

    Raises:
        CoordinatorUnavailable: a line cannot be read, or the log is of another manifest.
    """
    raised: dict[str, int] = {}
    fingerprint = manifest.fingerprint
    for line in log:
        entry = _entry(line)
        if entry["update"] in _FULL:
            raised.clear()
            fingerprint = entry.get("manifestFingerprint", manifest.fingerprint)
        elif entry["update"] == _RAISED:
            raised[str(entry["package"])] = int(entry["new version"])
    if fingerprint != manifest.fingerprint:
        raise CoordinatorUnavailable("the manifest has been updated meanwhile", hint="ask again")
    return raised


def effective_manifest(manifest: SignedManifest, log: Sequence[str]) -> dict[str, Any]:
    """The manifest as a JSON object with the SecurityVersions in force.

    Raises:
        CoordinatorUnavailable: as `raised_versions`, or the manifest has no such package.
    """
    document: dict[str, Any] = copy.deepcopy(json.loads(manifest.raw))
    packages = document.get(_key(document, "Packages"), {})
    for name, version in raised_versions(manifest, log).items():
        if name not in packages:
            raise CoordinatorUnavailable("the update log names a package that the manifest does not have", got=name)
        packages[name][_key(packages[name], "SecurityVersion")] = version
    return document


def _key(document: dict[str, Any], name: str) -> str:
    """The last key that is the name in any case, as Go decides; the name itself if there is none."""
    return next((key for key in reversed(document) if key.lower() == name.lower()), name)


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        if entry["update"] == _RAISED:
            _ = int(entry["new version"]), str(entry["package"])
        return dict(entry)
    except (ValueError, TypeError, KeyError) as error:
        raise CoordinatorUnavailable("a line of the update log cannot be read", got=type(error).__name__) from error
