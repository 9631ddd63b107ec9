"""What the demo's owner can do to its deployment, and find it again at the next start."""

from __future__ import annotations

import asyncio
import json

import pytest
from auditor import bought

from confidential_bookstore.marble.coordinator_trust import verify_coordinator
from confidential_bookstore.owner.api import CoordinatorApi
from confidential_bookstore.owner.connection import Connection
from confidential_bookstore.owner.user import read_user
from demo.system import System

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


async def test_a_lost_key_and_an_updated_manifest(system):
    """The state is recovered with the owner's key, and a manifest that the owner has agreed on is accepted."""
    running = system()
    async with running:
        before = await bought(running, more_than=0)
        files = running.workspace.owner
        user = read_user(files.user_certificate(), (files.folder / "user-key.pem").read_bytes())
        address = running.topology.client_address
        root = (await verify_coordinator(address, running.coordinator_trust())).root
        document = json.loads(running.manifest)
        document["Secrets"]["note"] = {"Type": "plain", "UserDefined": True}
        api = CoordinatorApi(Connection(address, root, user=user))
        await asyncio.to_thread(api.update, json.dumps(document).encode())
    (running.topology.state / "coordinator" / "sealed_key").unlink()
    told: list[str] = []
    again = System(
        running.workspace,
        running.topology,
        running.platform,
        running.enclaves,
        manifest=running.manifest,
        report=told.append,
    )
    async with again:
        assert any("recovered with the owner's recovery key" in line for line in told)
        assert (await verify_coordinator(address, again.coordinator_trust())).root == root
        assert again.deployment.fingerprint != running.deployment.fingerprint
        await bought(again, more_than=before)
