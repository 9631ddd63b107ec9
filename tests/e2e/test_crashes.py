"""Every process is killed in turn, under load; nothing is lost and nothing is sold twice."""

from __future__ import annotations

import asyncio
import collections
import os
import signal

import pytest
from auditor import ask_for_keys, bought, journalled, settle, stored

from demo.observation import observe
from demo.topology import MARBLES

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]
VICTIMS = ("bookstore", "bookwarehouse", "coordinator", "bookbuyer", "bookthief")


async def test_receipts_equal_orders_after_every_process_was_killed(system, tmp_path):
    running = system(bookbuyer={"CBS_BUY_INTERVAL": "0", "CBS_BUY_CONCURRENCY": "8"})
    async with running:
        keys = await ask_for_keys(running, tmp_path)
        for round_, victim in enumerate(VICTIMS * 2):
            before = await bought(running, more_than=0)
            os.kill(running.supervisor.pid(victim), signal.SIGKILL)
            for _ in range(200):
                if running.supervisor.restarts(victim) > round_ // len(VICTIMS):
                    break
                await asyncio.sleep(0.1)
            assert running.supervisor.restarts(victim) == round_ // len(VICTIMS) + 1, victim
            await bought(running, more_than=before)
        await _all_back(running)
    await settle(running)

    receipts, orders = journalled(running, keys), stored(running, keys)
    assert receipts.pending == set()
    assert receipts.refused == []
    assert receipts.receipts == orders
    assert len(orders) > 100
    assert [p for p, n in collections.Counter(o.purchase_id for o in orders).items() if n > 1] == []


async def _all_back(running) -> None:
    """Everybody is attested and ready again, the killed coordinator has kept its root, and activates again."""
    for _ in range(150):
        seen = await observe(running.topology)
        if seen.attested() == MARBLES and all(seen.services[name]["ready"] for name in seen.attested()):
            break
        await asyncio.sleep(0.2)
    assert seen.attested() == MARBLES
    assert all(seen.services[name]["ready"] for name in seen.attested())
    assert seen.latest_activation("bookbuyer") is not None
    assert seen.counter("bookthief", "books_stolen") == 0
