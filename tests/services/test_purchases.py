"""What the buyer knows is a fold over the records of its journal."""

from __future__ import annotations

import pytest
from bookstore_world import new_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from confidential_bookstore.api.books.v1 import books_pb2
from confidential_bookstore.errors import SealedStateError
from services.bookbuyer.purchases import Intent, Purchases, Refusal, Reset, decode, encode


def receipt(purchase_id: str, seller="bookstore-v1", quantity=1) -> books_pb2.Receipt:
    made = books_pb2.Receipt(purchase_id=purchase_id, order_id=new_id(), quantity=quantity, seller=seller, buyer="b")
    made.book.CopyFrom(books_pb2.Book(book_id="iliad", title="Ιλιάς 📖", author="Homer", year=-750))
    made.sold_at.FromNanoseconds(1_700_000_000_123_456_000)
    return made


@pytest.mark.parametrize(
    "record", [Intent("a", "emma", 3), receipt("a"), Refusal("a", "NOT_FOUND", "no such book\n📚"), Reset()]
)
def test_records_are_read_as_they_were_written(record):
    assert decode(encode(record)) == record


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"kind":"gift"}',
        b'{"kind":"intent"}',
        b'{"kind":"refusal","x":1}',
        b'{"kind":"receipt"}',
        b'{"kind":"receipt","receipt":{"nosuch":1}}',
        b"\xff\xfe",
    ],
)
def test_a_malformed_record_is_refused(data):
    with pytest.raises(SealedStateError):
        decode(data)


def test_settling_what_was_not_pending_is_refused():
    with pytest.raises(SealedStateError, match="not pending"):
        Purchases().apply(receipt("a"))


@given(st.lists(st.sampled_from(["intent", "receipt", "refusal", "reset"]), max_size=40), st.randoms())
@settings(suppress_health_check=list(HealthCheck))
def test_counts_are_a_fold_over_the_records(kinds, chance):
    purchases = Purchases()
    pending, copies, refused, receipts = [], 0, 0, []
    for kind in kinds:
        if kind == "intent":
            pending.append(new_id())
            purchases.apply(Intent(pending[-1], "emma"))
        elif kind == "reset":
            copies = refused = 0
            purchases.apply(Reset())
        elif pending:
            settled = pending.pop(chance.randrange(len(pending)))
            if kind == "receipt":
                receipts.append(receipt(settled, quantity=2))
                copies += 2
                purchases.apply(receipts[-1])
            else:
                refused += 1
                purchases.apply(Refusal(settled, "NOT_FOUND", ""))
        assert list(purchases.pending) == pending
        assert (purchases.books_bought, purchases.refused) == (copies, refused)
        assert list(purchases.receipts) == receipts
