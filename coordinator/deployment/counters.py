"""Monotonic counters for marbles: each marble has its own, by name, and they only ever grow."""

from __future__ import annotations

import base64
import struct
from dataclasses import replace
from uuid import UUID

from confidential_bookstore.errors import FeatureDisabled, InvalidRequest, SealedStateError
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.state import COUNTERS, Phase
from coordinator.manifest.config import FeatureGate

_VALUE = struct.Struct("<Q")
LONGEST_NAME = 256  # characters
MOST_COUNTERS = 10_000  # of the whole deployment: every one is sealed with the state


def raise_counter(
    deployment: Deployment, marble_type: str, uuid: UUID, name: str, value: int
) -> tuple[Deployment, int]:
    """The counter with at least this value, and what it was before: 0 at first. Never makes it smaller.

    Raises:
        StateError: there is no manifest.
        FeatureDisabled: the manifest does not have the feature gate.
        InvalidRequest: the name is too long, the value no uint64, or there are too many counters.
    """
    deployment.state.require(Phase.ACCEPTING_MARBLES)
    if FeatureGate.MONOTONIC_COUNTER not in deployment.require_manifest().config.feature_gates:
        raise FeatureDisabled("MonotonicCounter feature is not enabled in the manifest")
    if len(name) > LONGEST_NAME:
        raise InvalidRequest("name of the counter is too long", got=len(name), expected=f"at most {LONGEST_NAME}")
    if not 0 <= value < 1 << 64:
        raise InvalidRequest("value of the counter is out of range", expected="0 to 18446744073709551615")
    key = COUNTERS + counter_id(marble_type, uuid, name)
    record = deployment.state.records.get(key)
    previous = _read(record) if record is not None else 0
    if value <= previous:
        return deployment, previous
    if record is None and len(deployment.state.named(COUNTERS)) >= MOST_COUNTERS:
        raise InvalidRequest("too many counters", expected=f"at most {MOST_COUNTERS}")
    return replace(deployment, state=deployment.state.change({key: _VALUE.pack(value)})), previous


def counter_id(marble_type: str, uuid: UUID, name: str) -> str:
    """MarbleRun's key of a counter: no two marbles share one, whatever their names are."""
    parts = (marble_type.encode(), uuid.bytes, name.encode())
    return ":".join(base64.b64encode(part).decode() for part in parts)


def _read(record: bytes) -> int:
    try:
        return int(_VALUE.unpack(record)[0])
    except struct.error:
        raise SealedStateError("a stored counter cannot be read") from None
