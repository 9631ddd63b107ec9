"""Orders copies of a title that has run out, as the original bookstore does.

A restock can be repeated without harm, at every level. Its id is derived from the purchase that asked for it, so a
purchase that is retried, also after the store was killed, orders its copies once. And purchases that find the same
title sold out at the same time wait for one order together.
"""

from __future__ import annotations

import asyncio
import uuid

import structlog

from services.bookstore.warehouse import Warehouse

_log = structlog.get_logger()

_RESTOCKS = uuid.UUID("6f1a3c52-2b0e-5d6e-9f57-3f0d8f1b7a10")  # namespace of restock ids; any fixed UUID serves


def restock_id_for(seller: str, purchase_id: str) -> str:
    """The one restock that a purchase may cause."""
    return str(uuid.uuid5(_RESTOCKS, f"{seller}/{purchase_id}"))


class Restocker:
    """Orders `copies` of a title at a time."""

    def __init__(self, warehouse: Warehouse, copies: int) -> None:
        self._warehouse = warehouse
        self._copies = copies
        self._ordered: dict[str, asyncio.Task[None]] = {}

    async def restock(self, book_id: str, purchase_id: str) -> None:
        """Returns when copies have arrived that were ordered by this purchase, or by one that came just before.

        Raises:
            StoreUnavailable: the warehouse did not answer.
        """
        order = self._ordered.get(book_id)
        if order is None:
            order = asyncio.create_task(self._order(book_id, purchase_id))
            self._ordered[book_id] = order
            order.add_done_callback(lambda _: self._ordered.pop(book_id))
        # Shielded: others wait for the same order, so a caller that leaves must not cancel it.
        await asyncio.shield(order)

    async def _order(self, book_id: str, purchase_id: str) -> None:
        restock_id = restock_id_for(self._warehouse.seller, purchase_id)
        await self._warehouse.restock(restock_id, book_id, self._copies)
        _log.info("store.restocked", copies=self._copies)  # not which: the host reads logs
