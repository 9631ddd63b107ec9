"""Where the sealed state is kept: two byte strings that are replaced together or not at all.

A store looks into neither of them. Its host can read, withhold and replace everything in it; what that is worth is
decided where the state is unsealed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SealedPair:
    """What is stored.

    Attributes:
        data: content of `sealed_data`.
        key: content of `sealed_key`; None if there is none.
        version: of this pair, see `version_of`.
    """

    data: bytes
    key: bytes | None
    version: str


def version_of(data: bytes) -> str:
    """The version of a pair with this data. No two writes have the same: their nonces differ."""
    return hashlib.sha256(data).hexdigest()


class StateStore(Protocol):
    """Safe to use from several threads.

    Every method raises `StoreUnavailable` if the store is away, and `SealedStateError` if it is broken. Then nothing is
    lost, and a write has happened wholly or not at all.
    """

    def read(self) -> SealedPair | None:
        """The pair; None if nothing was ever written."""
        ...

    def replace(self, data: bytes, key: bytes | None, *, expected: str | None, keep_old: bool = False) -> str:
        """Writes a pair in place of the one with version `expected` (None: of none); durable on return.

        Args:
            data: content of `sealed_data`.
            key: content of `sealed_key`.
            expected: version of the pair to be replaced.
            keep_old: the replaced pair is set aside, where an operator finds it, in place of one set aside before.

        Returns:
            The version of the new pair.

        Raises:
            StateConflict: there is another pair. Nothing was written.
        """
        ...

    def version(self) -> str | None:
        """The version of the pair; None if nothing was ever written. Cheaper than `read`."""
        ...

    def read_node_key(self, node: str) -> bytes | None:
        """The sealed key of a machine (`node` is lower-case hex); None if there is none."""
        ...

    def write_node_key(self, node: str, key: bytes) -> None:
        """Writes it in place of any other; durable on return."""
        ...

    def close(self) -> None:
        """Lets go of the store."""
        ...
