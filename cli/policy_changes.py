"""Changes of policy, taken where they are enforced: a mesh's folder, and the manifest of a coordinator.

Everything is checked before anything is written. A folder whose change is refused, by the mesh or by the coordinator,
is put back as it was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.connecting import Target
from cli.manifest_update import describe
from cli.output import waiting
from cli.policy_layers import Layer, PolicyFolder
from confidential_bookstore.errors import BookstoreError, ConfigurationError, MeshError
from confidential_bookstore.owner.effective import effective_manifest
from confidential_bookstore.owner.policy_update import to_bytes, with_policy
from mesh.state import read_state

Edits = Mapping[str, str | None]
_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.05
_SETTLING_SECONDS = 0.5  # the mesh may have looked between two files
UNCHANGED, NOT_RUNNING = "nothing to change", "written; the mesh does not run"
NO_COORDINATOR = "written; no coordinator, so no manifest was updated (`cbs manifest build`)"


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be written into one folder. `after` has been checked."""

    before: PolicyFolder
    after: PolicyFolder
    edits: Edits

    @classmethod
    def of(cls, folder: PolicyFolder, edits: Edits) -> Change:
        """Only what is different.

        Raises:
            PolicyError: the new texts break a rule.
        """
        different = {name: text for name, text in edits.items() if folder.texts.get(name) != text}
        return cls(folder, folder.changed(different), different)

    def apply(self, target: Target) -> dict[str, object]:
        """Write it, and have it enforced. What is returned says how that went.

        Raises:
            MeshError: the mesh does not take it.
            ConfigurationError, CoordinatorUntrusted, CoordinatorUnavailable, CoordinatorRefused: the manifest cannot be
                updated.
            ManifestError: the manifest in force has other marbles.
        """
        if self.before.layer is Layer.MARBLES:
            return self._update_manifest(target)
        return self.apply_to_mesh()

    def apply_to_mesh(self) -> dict[str, object]:
        """`apply` where there is only a mesh.

        Raises:
            MeshError, ConfigurationError: as `apply`.
        """
        if not self.edits:
            return {self.before.layer.title(): UNCHANGED}
        state = read_state(self.before.path.parent)
        self._write()
        try:
            return {self.before.layer.title(): self._wait(state)}
        except BaseException:
            self._put_back()
            raise

    def _wait(self, before: Mapping[str, Any]) -> str:
        """Until the mesh has another version in force."""
        if not any(each.get("ready") for each in before["sidecars"].values()):
            return NOT_RUNNING
        deadline, refused_at = time.monotonic() + _PATIENCE_SECONDS, 0.0
        with waiting("waiting for the mesh"):
            while (state := read_state(self.before.path.parent))["version"] == before["version"]:
                refused = state["error"] and state["error"] != before["error"]
                refused_at = (refused_at or time.monotonic()) if refused else 0.0
                if refused and time.monotonic() - refused_at > _SETTLING_SECONDS:
                    raise MeshError(
                        "the mesh refuses this policy, which has been put back", got=state["error"]["message"]
                    )
                if time.monotonic() > deadline:
                    raise MeshError(
                        "the mesh does not take the policy up, which has been put back",
                        expected=f"another version than {before['version']} within {_PATIENCE_SECONDS:.0f} s",
                        hint="does `cbs mesh run` still run? see `cbs mesh status`",
                    )
                time.sleep(_LOOK_SECONDS)
        return f"version {state['version']} in force"

    def _update_manifest(self, target: Target) -> dict[str, object]:
        """The manifest in force with this policy; also if the folder said so already, but the manifest did not."""
        if not target.context.coordinator:
            self._write()
            return {self.before.layer.title(): NO_COORDINATOR if self.edits else UNCHANGED}
        api = target.api(as_user=True)
        now = effective_manifest(api.manifest(), api.update_log())
        new = with_policy(now, self.after.documents)
        self._write()
        if new == now:
            return {self.before.layer.title(): "in force, the manifest says it already"}
        try:
            with waiting("updating the manifest"):
                answer = api.update(to_bytes(new))
        except BookstoreError:
            self._put_back()
            raise
        return {self.before.layer.title(): "manifest updated", **describe(answer)}

    def _write(self) -> None:
        for name, text in self.edits.items():
            put(self.before.path / name, text)

    def _put_back(self) -> None:
        for name in self.edits:
            put(self.before.path / name, self.before.texts.get(name))


def put(path: Path, text: str | None) -> None:
    """In one step, because the folder is watched; None takes the file away.

    Raises:
        ConfigurationError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if text is None:
            path.unlink(missing_ok=True)
            return
        unfinished.write_text(text, newline="")
        if path.exists():
            unfinished.chmod(path.stat().st_mode)
        unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError("cannot write", got=f"{path}: {error.strerror}") from error
