"""The coordinator's states, as values.

    0 UNINITIALIZED        nothing is known yet; never served
    1 RECOVERY             sealed state exists, but this machine cannot unseal it
    2 ACCEPTING_MANIFEST   there is a root certificate, and no manifest
    3 ACCEPTING_MARBLES    the manifest is set, and marbles are activated by it

What may happen, and nothing else:

* 0 to 2, `begin`: nothing was sealed; certificate authority and root secret are new.
* 0 to 1, `lock`: something was sealed that cannot be unsealed here; authority and root secret are temporary.
* 0 to 2 or 3, and 1 to 3, `restore`: records were unsealed; they say in which state they were sealed.
* 2 to 3, and 1 to 3, `accept_manifest`: a manifest is in force. In 1 the old sealed state is given up.
* 3 to 3, `change`: an update, an uploaded secret, a count.

There is no way back. A transition returns a new state and changes nothing; whoever calls it seals the new state before
showing it to anybody. The records are what is sealed, under MarbleRun's store keys. This module never does I/O and
never looks into a certificate, a secret or a manifest.
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
PREVIOUS_ROOT_OF_SECRETS: Final = "previousRootSecret"
MANIFEST: Final = "manifest"
MANIFEST_SIGNATURE: Final = "manifestSignature"
UPDATE_LOG: Final = "updateLog"
PENDING_UPDATE: Final = "pendingUpdate"
GENERATIONS: Final = "generations"  # beyond MarbleRun: which marble roots came before
# Followed by a name:
PACKAGES: Final = "package:"
USERS: Final = "user:"
SECRETS: Final = "secret:"
PREVIOUS_SECRETS: Final = "previousSecret:"
ACTIVATIONS: Final = "activations:"
COUNTERS: Final = "monotonicCounter:"


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

    def lock(self, authority: Mapping[str, bytes], root_secret: bytes) -> CoordinatorState:
        """0 to 1, with an authority that lasts until recovery, or until a manifest makes it the new one."""
        self.require(Phase.UNINITIALIZED)
        return self._move(Phase.RECOVERY, {**authority, ROOT_OF_SECRETS: root_secret})

    def restore(self, records: Mapping[str, bytes]) -> CoordinatorState:
        """To the state in which these records were sealed; what was there before is gone.

        Raises:
            SealedStateError: the records are of no state that is ever sealed.
        """
        self.require(Phase.UNINITIALIZED, Phase.RECOVERY)
        phase = _SEALED_PHASES.get(records.get(STATE, b""))
        if phase is None or (phase is Phase.ACCEPTING_MARBLES) != (MANIFEST in records):
            raise SealedStateError("sealed records are of no known state", got=records.get(STATE), expected="2 or 3")
        return CoordinatorState(phase, MappingProxyType(dict(records)))

    def accept_manifest(self, records: Mapping[str, bytes]) -> CoordinatorState:
        """2 or 1 to 3, with the records of the manifest, its signature and its secrets."""
        self.require(Phase.ACCEPTING_MANIFEST, Phase.RECOVERY)
        return self._move(Phase.ACCEPTING_MARBLES, records)

    def change(self, changes: Mapping[str, bytes], *, without: tuple[str, ...] = ()) -> CoordinatorState:
        """3 to 3.

        Args:
            changes: records to set.
            without: records to take out first, by exact key, or by prefix if it ends with a colon.
        """
        self.require(Phase.ACCEPTING_MARBLES)
        return self._move(self.phase, changes, without)

    def named(self, prefix: str) -> dict[str, bytes]:
        """The records with this prefix, by what follows it."""
        return {key.removeprefix(prefix): value for key, value in self.records.items() if key.startswith(prefix)}

    @property
    def activations(self) -> dict[str, int]:
        """How often each type was activated, as far as it was counted; kept in hex."""
        return {name: int(value, 16) for name, value in self.named(ACTIVATIONS).items()}

    def require(self, *phases: Phase) -> None:
        """Refuses in any other phase.

        Raises:
            StateError: with MarbleRun's words.
        """
        if self.phase not in phases:
            raise StateError("server is not in expected state")

    def _move(self, phase: Phase, changes: Mapping[str, bytes], without: tuple[str, ...] = ()) -> CoordinatorState:
        prefixes = tuple(key for key in without if key.endswith(":"))
        kept = {
            key: value
            for key, value in self.records.items()
            if key not in without and not (prefixes and key.startswith(prefixes))
        }
        records = {**kept, **changes, STATE: str(int(phase)).encode()}
        return CoordinatorState(phase, MappingProxyType(records))


_SEALED_PHASES = {str(int(phase)).encode(): phase for phase in (Phase.ACCEPTING_MANIFEST, Phase.ACCEPTING_MARBLES)}
