"""An update in two parts, because listeners can be refused where a validation cannot see it: a port that is taken.

First everything but who may connect, then that. So an update that some sidecar refuses has let in nobody, and has cut
off nobody, by then.
"""

from __future__ import annotations

from mesh.compiler.compile import Resources
from mesh.compiler.wire import Json

_INBOUND = "INBOUND"


def withholding_policy(new: Resources, old: Resources) -> Resources:
    """The new listeners, of which those for calls that were there before keep their filter chains."""
    before = {each["name"]: each for each in old.listeners}
    return Resources(
        new.clusters, [_with_chains_of(each, before.get(each["name"])) for each in new.listeners], new.routes
    )


def _with_chains_of(listener: Json, before: Json | None) -> Json:
    if before is None or listener["traffic_direction"] != _INBOUND:
        return listener
    return {**listener, "filter_chains": before["filter_chains"]}
