"""Which sales of a batch go through: a pure function on values.

A store reads what the batch needs, asks this function, and writes what it says, all in one transaction. So the rules
stand in one place, whichever database keeps the books:

* a purchase_id that is stored yields its stored receipt, or a refusal if it is asked to stand for something else. Who
  sells is not part of what it stands for: a buyer may ask again at another store, and gets the receipt of the first;
* an unknown book and a stock that is too small are refused;
* each sale sees the stock that the sales before it have left.

A refusal does not name the book: the reason goes into logs, which the host reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from services.bookwarehouse.store import Outcome, Reason, Receipt, Refused, Sale, Sold, StockedBook


def decide(
    sales: Iterable[Sale],
    *,
    shelf: Mapping[str, StockedBook],
    stored: Mapping[str, Receipt],
    sold_at: datetime,
    new_order_id: Callable[[], str],
) -> list[Outcome]:
    """One outcome per sale. The orders to write are the receipts of those that are sold and not replayed.

    Args:
        sales: in order of arrival.
        shelf: by book_id, every book that the sales name and that exists.
        stored: by purchase_id, every order that is stored for one of the sales.
        sold_at: the time of the receipts.
        new_order_id: makes the id of an order.
    """
    left = {book_id: stocked.stock for book_id, stocked in shelf.items()}
    receipts = dict(stored)
    outcomes: list[Outcome] = []
    for sale in sales:
        earlier = receipts.get(sale.purchase_id)
        if earlier is not None:
            outcomes.append(_repeated(sale, earlier))
        elif sale.book_id not in left:
            outcomes.append(Refused(Reason.UNKNOWN_BOOK, "no book has this book_id"))
        elif left[sale.book_id] < sale.quantity:
            outcomes.append(
                Refused(
                    Reason.OUT_OF_STOCK,
                    f"{left[sale.book_id]} copies left, {sale.quantity} asked for",
                )
            )
        else:
            left[sale.book_id] -= sale.quantity
            receipt = Receipt(order_id=new_order_id(), sale=sale, book=shelf[sale.book_id].book, sold_at=sold_at)
            receipts[sale.purchase_id] = receipt
            outcomes.append(Sold(receipt))
    return outcomes


def _repeated(sale: Sale, earlier: Receipt) -> Outcome:
    if earlier.sale == replace(sale, seller=earlier.sale.seller):
        return Sold(earlier, replayed=True)
    # The earlier purchase is not described: it may be somebody else's.
    return Refused(Reason.PURCHASE_ID_REUSED, f"purchase_id {sale.purchase_id} stands for another purchase already")
