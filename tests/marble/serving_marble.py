"""A marble in a process of its own, for tests that send it signals. Prints its ports, then a line per purchase."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest import Collateral
from fake_coordinator import BOOKSTORE, COORDINATOR_PACKAGE

from confidential_bookstore.api.bookstore.v1 import bookstore_pb2, bookstore_pb2_grpc
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.marble import Marble, MarbleSettings
from confidential_bookstore.telemetry.logs import configure_logging


class SlowStore(bookstore_pb2_grpc.BookstoreServiceServicer):
    async def BuyBook(self, request, context):
        print("buying", flush=True)  # noqa: T201
        await asyncio.sleep(1)
        return bookstore_pb2.BuyBookResponse(replayed=True)


async def main() -> None:
    configure_logging("bookstore")
    platform = SimulatedPlatform.load(Path(os.environ["PLATFORM"]))
    marble = Marble(
        MarbleSettings.from_environ(os.environ),
        platform=InProcessPlatform(platform, BOOKSTORE),
        verifier=Verifier(TrustRoot.from_pem(platform.root_pem), Collateral(platform)),
        coordinator_package=COORDINATOR_PACKAGE,
    )
    async with marble:
        server = marble.server((bookstore_pb2_grpc.add_BookstoreServiceServicer_to_server, SlowStore()))

        async def say_ports() -> None:
            while not marble.status.ready:  # noqa: ASYNC110  # the status is for pages, it has no event
                await asyncio.sleep(0.01)
            print(server.port, marble.status_port, flush=True)  # noqa: T201

        saying = asyncio.create_task(say_ports())
        await marble.serve(server)
        await saying


asyncio.run(main())
