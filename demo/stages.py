"""The three stages of the story: what protects the books."""

from __future__ import annotations

from enum import Enum


class Stage(Enum):
    """In the order in which they are told."""

    PLAIN = "plain"
    MESH = "mesh"
    CONFIDENTIAL = "confidential"

    @property
    def protection(self) -> str:
        """What there is between a thief and the books."""
        return _PROTECTION[self]


_PROTECTION = {
    Stage.PLAIN: "nothing protects the books",
    Stage.MESH: "sidecars on the host check the mesh's policy",
    Stage.CONFIDENTIAL: "attested code only, and the owner's policy inside of it; the sidecars are still there",
}
