"""A full update that waits for the acknowledgments of other users."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from confidential_bookstore.errors import SealedStateError


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingUpdate:
    """What was proposed, and who has agreed.

    Attributes:
        raw: the proposed manifest, byte for byte.
        users: everybody who may agree, and whether they have.
        needed: how many of them have to.
    """

    raw: bytes = field(repr=False)
    users: Mapping[str, bool]
    needed: int

    def acknowledged_by(self, user: str) -> PendingUpdate:
        """With one more agreement; a second one of the same user changes nothing."""
        return replace(self, users={**self.users, user: True})

    @property
    def missing_acknowledgments(self) -> int:
        """How many are still needed."""
        return max(0, self.needed - sum(self.users.values()))

    @property
    def missing_users(self) -> tuple[str, ...]:
        """Who could still give one, sorted by name."""
        return tuple(sorted(name for name, agreed in self.users.items() if not agreed))

    def to_record(self) -> bytes:
        """To be sealed, with MarbleRun's names."""
        return json.dumps(
            {
                "manifestRaw": base64.b64encode(self.raw).decode(),
                "requiredUsers": dict(self.users),
                "missingAcknowledgments": self.missing_acknowledgments,
            }
        ).encode()

    @classmethod
    def from_record(cls, record: bytes) -> PendingUpdate:
        """Read what `to_record` wrote.

        Raises:
            SealedStateError: it is something else.
        """
        try:
            fields = json.loads(record)
            users = {str(name): bool(agreed) for name, agreed in fields["requiredUsers"].items()}
            needed = int(fields["missingAcknowledgments"]) + sum(users.values())
            return cls(raw=base64.b64decode(fields["manifestRaw"], validate=True), users=users, needed=needed)
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            raise SealedStateError("a stored update cannot be read") from None
