"""Real marbles of a real coordinator while its manifest is updated: who goes is out in seconds, others see nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time

import grpc
import pytest
from api_users import api_user, manifest_of_users
from coordinators import BOOKSTORE, SIGNER, client_of, set_manifest

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2, bookstore_pb2_grpc
from confidential_bookstore.attestation.package import Package
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.marble import Marble, MarbleSettings
from confidential_bookstore.marble.generations import REVOKED

SERVICE = "/confidential_bookstore.api.bookstore.v1.BookstoreService"
TYPES = ("bookstore", "bookbuyer", "bookthief")
RULES = json.dumps([{"name": "all", "sources": list(TYPES), "matches": [{"path": f"{SERVICE}/.*"}]}])
PACKAGES = {
    "bookstore": {"SignerID": SIGNER.hex(), "ProductID": 3, "SecurityVersion": 2},
    "thief": {"SignerID": SIGNER.hex(), "ProductID": 5, "SecurityVersion": 2},
}
ASK = bookstore_pb2.GetSalesRequest()


class Store(bookstore_pb2_grpc.BookstoreServiceServicer):
    async def GetSales(self, request, context):
        return bookstore_pb2.GetSalesResponse()


def manifest(types=TYPES) -> bytes:
    marbles = {
        name: {
            "Package": "thief" if name == "bookthief" else "bookstore",
            "Parameters": {"Env": {"MARBLE_ACCESS_RULES": {"Data": RULES, "NoTemplates": True, "Encoding": "string"}}},
        }
        for name in types
    }
    return manifest_of_users(
        Packages=PACKAGES,
        Marbles=marbles,
        Secrets={},
        Users={"alice": {"Certificate": api_user("alice").pem, "Roles": ["owner", "versions"]}},
        Roles={
            "owner": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
            "versions": {"ResourceType": "Packages", "ResourceNames": ["thief"], "Actions": ["UpdateSecurityVersion"]},
        },
    )


@pytest.fixture
async def marble(start, machine, verifier, tmp_path):
    """Starts marbles of one coordinator; `marble.coordinator` is it."""
    async with start() as coordinator, contextlib.AsyncExitStack() as stack:
        await set_manifest(coordinator, manifest())

        async def starting(marble_type: str) -> Marble:
            environ = {
                "EDG_MARBLE_TYPE": marble_type,
                "EDG_MARBLE_COORDINATOR_ADDR": f"127.0.0.1:{coordinator.mesh_port}",
                "CBS_COORDINATOR_CLIENT_ADDR": f"127.0.0.1:{coordinator.client_port}",
                "CBS_LISTEN_ADDR": "127.0.0.1:0",
                "CBS_STATUS_ADDR": "127.0.0.1:0",
                "CBS_DATA_DIR": str(tmp_path / marble_type),
            }
            identity = dataclasses.replace(BOOKSTORE, product_id=5 if marble_type == "bookthief" else 3)
            marble = Marble(
                MarbleSettings.from_environ(environ),
                platform=InProcessPlatform(machine, identity),
                verifier=verifier,
                coordinator_package=Package(signer_id=SIGNER.hex(), product_id=1, security_version=1),
                environ=environ,
            )
            return await stack.enter_async_context(marble)

        starting.coordinator = coordinator
        yield starting


async def calling(marble: Marble, port: int, failures: list) -> None:
    stub = bookstore_pb2_grpc.BookstoreServiceStub(marble.channel("bookstore", f"127.0.0.1:{port}"))
    while True:
        try:
            await stub.GetSales(ASK)
        except grpc.aio.AioRpcError as error:
            failures.append((time.time(), error.code(), error.details()))
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("update", "soonest"),
    [(manifest(TYPES[:2]), 0.0), (json.dumps({"Packages": {"thief": {"SecurityVersion": 3}}}).encode(), 4.5)],
    ids=["the type is gone", "its package is raised"],
)
async def test_a_revoked_type_is_out_within_ten_seconds_and_nobody_else_notices(marble, update, soonest):
    store, buyer, thief = [await marble(name) for name in TYPES]
    port = await store.server((bookstore_pb2_grpc.add_BookstoreServiceServicer_to_server, Store())).start()
    buying, stealing = [], []
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(calling(buyer, port, buying)),
            tasks.create_task(calling(buyer, port, buying)),
            tasks.create_task(calling(thief, port, stealing)),
        ]
        await asyncio.sleep(0.5)
        assert stealing == []
        async with client_of(marble.coordinator, api_user("alice").tls()) as alice:
            updated = time.time()
            assert (await alice.post("/update", update))[0] == 200
        async with asyncio.timeout(10):
            while not stealing or thief.status.reason != "revoked by a manifest update":  # noqa: ASYNC110  # no event
                await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        for task in running:
            task.cancel()
    assert buying == []
    assert not store._live.outdated
    assert not buyer._live.outdated
    when, code, details = stealing[0]
    assert soonest <= when - updated < 9
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert f"(rule: {REVOKED})" in details
