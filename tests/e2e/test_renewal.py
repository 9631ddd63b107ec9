"""Certificates that live half a minute, under load for three: renewed, and no call fails."""

from __future__ import annotations

import asyncio
import re

import pytest
from auditor import bought

from demo.observation import observe

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]
LIFETIME, DURATION = 30, 180


async def test_no_call_fails_while_certificates_are_renewed(system):
    running = system(
        coordinator={"CBS_LEAF_LIFETIME": str(LIFETIME)},
        bookbuyer={"CBS_BUY_INTERVAL": "0", "CBS_BUY_CONCURRENCY": "8"},
    )
    async with running:
        start = await bought(running, more_than=10)
        logs = {name: running.workspace.logs / f"{name}.log" for name in ("bookbuyer", "bookstore", "bookwarehouse")}
        marks = {name: log.stat().st_size for name, log in logs.items()}
        await asyncio.sleep(DURATION)
        end = await bought(running, more_than=start)
        seen = await observe(running.topology)
        restarts = {name: running.supervisor.restarts(name) for name in logs}
        new = {name: log.read_bytes()[marks[name] :].decode() for name, log in logs.items()}

    for name, text in new.items():
        renewals = len(re.findall(r'"event": "renewal.done"', text))
        assert renewals >= DURATION // LIFETIME, (name, renewals)
        assert seen.counter(name, "errors_total") == 0
        assert restarts[name] == 0
    assert "purchase.unsettled" not in new["bookbuyer"]
    assert seen.counter("bookbuyer", "purchases_refused") == 0
    assert end - start > DURATION
