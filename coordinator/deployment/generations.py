"""Generations of marble certificates, and which of them are revoked.

Every update makes a new marble root, and with it a new generation. Certificates of older generations stay good, so that
an update disturbs nobody, except those of the marble types that the update takes away or holds to other rules: they end
at once when the type is gone, and after `GRACE` when its package has changed, so that marbles which pass the new rules
have renewed by then. That is how a marble is revoked: it is not given another certificate, and its peers are told not
to take the old one any longer (`GET /api/v2/generations`).
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.errors import SealedStateError

GRACE = dt.timedelta(seconds=5)
LONGEST_LEAF_LIFETIME = dt.timedelta(days=30)  # then the last certificate of a generation has ended by itself
MOST_PREVIOUS = 16


@dataclass(frozen=True, slots=True)
class PreviousGeneration:
    """Marble certificates below a marble root that signs no more.

    Attributes:
        until: when its last certificate has ended.
        revoked: marble types whose certificates end before that, and when.
    """

    number: int
    marble_root: x509.Certificate
    until: dt.datetime
    revoked: Mapping[str, dt.datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Generations:
    """The number of the present generation, from 0, and those before it, the newest first."""

    present: int = 0
    previous: tuple[PreviousGeneration, ...] = ()

    def superseded(
        self, marble_root: x509.Certificate, revoked: Mapping[str, dt.datetime], now: dt.datetime
    ) -> Generations:
        """After an update.

        Args:
            marble_root: which signed until now.
            revoked: types whose certificates, of this generation and all before it, end early.
            now: the time of the update.
        """
        last = PreviousGeneration(self.present, marble_root, now + LONGEST_LEAF_LIFETIME, revoked)
        # A type that was revoked earlier stays so from then: an older generation keeps its own, earlier end.
        older = (replace(each, revoked={**revoked, **each.revoked}) for each in self.previous if each.until > now)
        return Generations(self.present + 1, (last, *older)[:MOST_PREVIOUS])

    def report(self, marble_root: x509.Certificate, now: dt.datetime) -> dict[str, Any]:
        """What marbles are told; times are Unix seconds."""
        return {
            "generation": self.present,
            "marbleRoot": _pem(marble_root),
            "previous": [
                {
                    "generation": each.number,
                    "marbleRoot": _pem(each.marble_root),
                    "until": each.until.timestamp(),
                    "revoked": {name: end.timestamp() for name, end in sorted(each.revoked.items())},
                }
                for each in self.previous
                if each.until > now
            ],
        }

    def to_record(self) -> bytes:
        """To be sealed."""
        previous = [
            {
                "number": each.number,
                "marbleRoot": base64.b64encode(each.marble_root.public_bytes(Encoding.DER)).decode(),
                "until": each.until.isoformat(),
                "revoked": {name: end.isoformat() for name, end in each.revoked.items()},
            }
            for each in self.previous
        ]
        return json.dumps({"present": self.present, "previous": previous}).encode()

    @classmethod
    def from_record(cls, record: bytes | None) -> Generations:
        """Read what `to_record` wrote; without a record, the first generation.

        Raises:
            SealedStateError: it is something else.
        """
        if record is None:
            return cls()
        try:
            fields = json.loads(record)
            return cls(
                int(fields["present"]),
                tuple(
                    PreviousGeneration(
                        int(each["number"]),
                        x509.load_der_x509_certificate(base64.b64decode(each["marbleRoot"])),
                        dt.datetime.fromisoformat(each["until"]),
                        {name: dt.datetime.fromisoformat(end) for name, end in each["revoked"].items()},
                    )
                    for each in fields["previous"]
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise SealedStateError("stored generations cannot be read", got=type(error).__name__) from None


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
