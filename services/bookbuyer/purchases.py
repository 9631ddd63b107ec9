"""What the buyer knows about its purchases, as a fold over the records of its journal.

A purchase is intended, and then settled: by a receipt or by a refusal. What is intended and not settled is pending: a
store may or may not have sold it, and only asking again with the same purchase_id tells. There is no other state than
the records, so a buyer that was killed knows after a restart exactly what it knew before.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import json_format

from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.errors import SealedStateError

MAX_RECEIPTS = 1_000


@dataclass(frozen=True, slots=True)
class Intent:
    """One purchase as it is about to be asked for, in every attempt with the same values."""

    purchase_id: str
    book_id: str
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class Refusal:
    """A purchase that came to nothing, for good."""

    purchase_id: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Counting starts anew. Receipts and pending purchases stay."""


Record = Intent | books_pb2.Receipt | Refusal | Reset


@dataclass(slots=True)
class Purchases:
    """The state after some records. `receipts` holds the newest thousand, oldest first."""

    pending: dict[str, Intent] = field(default_factory=dict)
    bought_by_seller: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    receipts: deque[books_pb2.Receipt] = field(default_factory=lambda: deque(maxlen=MAX_RECEIPTS))

    @property
    def books_bought(self) -> int:
        """Copies since the last reset."""
        return self.bought_by_seller.total()

    def apply(self, record: Record) -> None:
        """Take one more record into account.

        Raises:
            SealedStateError: it settles a purchase that is not pending.
        """
        match record:
            case Intent():
                self.pending[record.purchase_id] = record
            case books_pb2.Receipt():
                self._settle(record.purchase_id)
                self.bought_by_seller[record.seller] += record.quantity
                self.receipts.append(record)
            case Refusal():
                self._settle(record.purchase_id)
                self.refused += 1
            case Reset():
                self.bought_by_seller.clear()
                self.refused = 0

    def _settle(self, purchase_id: str) -> None:
        if self.pending.pop(purchase_id, None) is None:
            raise SealedStateError("the journal settles a purchase that was not pending", got=purchase_id)


def encode(record: Record) -> bytes:
    """One journal record: JSON, with the kind of record in "kind"."""
    match record:
        case Intent():
            fields: Mapping[str, object] = {
                "kind": "intent",
                "purchase_id": record.purchase_id,
                "book_id": record.book_id,
                "quantity": record.quantity,
            }
        case books_pb2.Receipt():
            fields = {"kind": "receipt", "receipt": json_format.MessageToDict(record)}
        case Refusal():
            fields = {
                "kind": "refusal",
                "purchase_id": record.purchase_id,
                "code": record.code,
                "reason": record.reason,
            }
        case Reset():
            fields = {"kind": "reset"}
    return json.dumps(fields, separators=(",", ":")).encode()


def decode(data: bytes) -> Record:
    """The record again.

    Raises:
        SealedStateError: it was written by another version of this program.
    """
    try:
        fields = json.loads(data)
        match fields.pop("kind"):
            case "intent":
                return Intent(**fields)
            case "receipt":
                return json_format.ParseDict(fields["receipt"], books_pb2.Receipt())
            case "refusal":
                return Refusal(**fields)
            case "reset":
                return Reset()
            case kind:
                raise SealedStateError("the journal holds an unknown kind of record", got=repr(kind))
    except (ValueError, KeyError, TypeError, AttributeError, json_format.ParseError) as error:
        raise SealedStateError("the journal holds a malformed record", got=type(error).__name__) from error
