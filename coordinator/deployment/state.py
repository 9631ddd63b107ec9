"""The coordinator's states, as values.

    0 UNINITIALIZED        nothing is known yet; never served
    1 RECOVERY             sealed state exists, but this machine cannot unseal it
    2 ACCEPTING_MANIFEST   there is a root certificate, and no manifest
    3 ACCEPTING_MARBLES    the manifest is set, and marbles are activated by it

What may happen, and nothing else:

* 0 to 2, `begin`: nothing was sealed; certificate authority and root secret are new.
* 0 to 2 or 3, `restore`: records were unsealed; they say in which state they were sealed.
* 2 to 3, `accept_manifest`: the manifest, its signature and the secrets that all marbles share are there from now on.
* 3 to 3, `count_activation`: one more marble of a type whose number is limited.

There is no way back, and a manifest is set once. No transition leads to 1: a coordinator whose sealed state cannot be
unsealed stops and leaves the files as they are.

A transition returns a new state and changes nothing; whoever calls it seals the new state before showing it to anybody.
The records are what is sealed, under MarbleRun's store keys. This module never does I/O and never looks into a
certificate, a secret or a manifest.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from confidential_bookstore.errors import SealedStateError, StateError

STATE: Final = "state"
ROOT_OF_SECRETS: Final = "rootSecret"  # unique secrets are derived from it
MANIFEST: Final = "manifest"
MANIFEST_SIGNATURE: Final = "manifestSignature"
ACTIVATIONS: Final = "activations:"  # + marble type
SECRETS: Final = "secret:"  # + name


class Phase(enum.IntEnum):
    """MarbleRun's state numbers."""

    UNINITIALIZED = 0
    RECOVERY = 1
    ACCEPTING_MANIFEST = 2
    ACCEPTING_MARBLES = 3


@dataclass(frozen=True, slots=True)
class CoordinatorState:
    """A phase and the records that belong to it.

    Attributes:
        records: what is sealed, by store key; secret, therefore not in the repr.
    """

    phase: Phase = Phase.UNINITIALIZED
    records: Mapping[str, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def begin(self, authority: Mapping[str, bytes], root_secret: bytes) -> CoordinatorState:
        """0 to 2, with the records of a new certificate authority and what unique secrets are derived from."""
        self.require(Phase.UNINITIALIZED)
        return self._move(Phase.ACCEPTING_MANIFEST, {**authority, ROOT_OF_SECRETS: root_secret})

    def restore(self, records: Mapping[str, bytes]) -> CoordinatorState:
        """0 to the state in which these records were sealed.

        Raises:
            SealedStateError: the records are of no state that is ever sealed.
        """
        self.require(Phase.UNINITIALIZED)
        phase = _SEALED_PHASES.get(records.get(STATE, b""))
        if phase is None or (phase is Phase.ACCEPTING_MARBLES) != (MANIFEST in records):
            raise SealedStateError("sealed records are of no known state", got=records.get(STATE), expected="2 or 3")
        return self._move(phase, records)

    def accept_manifest(self, raw: bytes, signature: bytes, secrets: Mapping[str, bytes]) -> CoordinatorState:
        """2 to 3.

        Args:
            raw: the manifest exactly as it was uploaded.
            signature: over `raw`, by the root key.
            secrets: records of the shared secrets, by name.
        """
        self.require(Phase.ACCEPTING_MANIFEST)
        records = {SECRETS + name: record for name, record in secrets.items()}
        return self._move(Phase.ACCEPTING_MARBLES, {**records, MANIFEST: raw, MANIFEST_SIGNATURE: signature})

    def count_activation(self, marble_type: str) -> CoordinatorState:
        """3 to 3: one more activation of this type. Whether it may be activated, the caller has just checked."""
        self.require(Phase.ACCEPTING_MARBLES)
        count = self.activations.get(marble_type, 0) + 1
        return self._move(self.phase, {ACTIVATIONS + marble_type: f"{count:x}".encode()})

    @property
    def activations(self) -> dict[str, int]:
        """How often each type was activated, as far as it was counted; kept in hex."""
        return {
            key.removeprefix(ACTIVATIONS): int(value, 16)
            for key, value in self.records.items()
            if key.startswith(ACTIVATIONS)
        }

    def require(self, *phases: Phase) -> None:
        """Refuses in any other phase.

        Raises:
            StateError: with MarbleRun's words.
        """
        if self.phase not in phases:
            raise StateError("server is not in expected state")

    def _move(self, phase: Phase, changes: Mapping[str, bytes]) -> CoordinatorState:
        records = {**self.records, **changes, STATE: str(int(phase)).encode()}
        return CoordinatorState(phase, MappingProxyType(records))


_SEALED_PHASES = {str(int(phase)).encode(): phase for phase in (Phase.ACCEPTING_MANIFEST, Phase.ACCEPTING_MARBLES)}
