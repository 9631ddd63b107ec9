"""The access log is read as it grows, and does not grow for ever."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from controller_world import STORE, THIEF, MeshWorld, buy, seconds_until

from mesh import access_file
from mesh.access_file import AccessFile


@contextlib.asynccontextmanager
async def following(access: AccessFile):
    task = asyncio.create_task(access.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_lines_are_told_once_and_whole(tmp_path):
    path = tmp_path / "access.log"
    path.write_bytes(b"told before\n")
    lines: list[bytes] = []
    access = AccessFile(path, lines.append)
    with access.opened() as file:
        async with following(access):
            file.write(b"one\ntw")
            file.flush()
            await seconds_until(lambda: lines == [b"one"])
            file.write(b"o\n")
            file.flush()
            await seconds_until(lambda: lines == [b"one", b"two"])


async def test_a_missing_file_is_no_reason_to_stop(tmp_path):
    path = tmp_path / "access.log"
    lines: list[bytes] = []
    access = AccessFile(path, lines.append)
    access.opened().close()
    path.unlink()
    async with following(access):
        await asyncio.sleep(0.3)
        path.write_bytes(b"again\n")
        await seconds_until(lambda: lines == [b"again"])


@pytest.mark.usefixtures("envoy")
async def test_what_envoy_writes_stays_short_and_whole(tmp_path, pytestconfig, monkeypatch):
    monkeypatch.setattr(access_file, "_LONG", 2_000)
    world = MeshWorld(tmp_path, pytestconfig.rootpath)
    log = tmp_path / "run" / "bookstore.bookstore" / "access.log"
    async with world.store(), world.controller() as mesh, world.caller(THIEF) as thief:
        await seconds_until(lambda: STORE in mesh.sidecars and mesh.sidecars[STORE].ready)
        refused = 0
        for _ in range(60):
            refused += await buy(thief) == "PERMISSION_DENIED"
            await asyncio.sleep(0.01)
        await seconds_until(lambda: sum(each.count for each in mesh.refusals.latest()) >= refused - 2)
        assert refused > 50
        assert log.stat().st_size < 10_000
        assert b"\0" not in log.read_bytes()
