"""Runs the thief: in an enclave like the others."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import closing

import grpc

from confidential_bookstore.api.bookthief.v1.bookthief_pb2_grpc import add_BookthiefServiceServicer_to_server
from confidential_bookstore.attestation.platforms import find_platform
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.tls import split_address
from confidential_bookstore.serving.process import run
from confidential_bookstore.telemetry.logs import configure_logging
from confidential_bookstore.telemetry.page import StatusPage
from confidential_bookstore.telemetry.status import Status
from services.bookthief.diary import Diary
from services.bookthief.methods import Method
from services.bookthief.methods.ask_coordinator import AskTheCoordinator
from services.bookthief.methods.attested import AttestedMarble
from services.bookthief.methods.no_certificate import NoCertificate
from services.bookthief.methods.plaintext import Plaintext
from services.bookthief.methods.self_signed import SelfSignedCertificate
from services.bookthief.service import BookthiefService
from services.bookthief.settings import ThiefSettings
from services.bookthief.thief import Thief


async def serve() -> None:
    """Steal until SIGTERM."""
    settings = ThiefSettings.from_environ(os.environ)
    configure_logging("bookthief", settings.marble.log_format)
    attested = AttestedMarble(settings.store_address, settings.marble, find_platform)
    methods: list[Method] = [
        attested,
        NoCertificate(settings.store_address),
        SelfSignedCertificate(settings.store_address),
        Plaintext(settings.store_address),
        AskTheCoordinator(settings.store_address, settings.marble, find_platform),
    ]
    status = Status("bookthief")
    with closing(StatusPage(status, *split_address(settings.marble.status_address))):
        diary = Diary(settings.diary_path, status)
        server = _server(diary, settings.marble.listen_address)
        await server.start()
        status.set_ready()
        thief = Thief(methods, diary)
        async with asyncio.TaskGroup() as tasks:
            stealing = tasks.create_task(thief.run(settings.interval))
            await _asked_to_stop()
            stealing.cancel()
        await attested.close()
        diary.latest.close()
        await server.stop(grace=5.0)


def _server(diary: Diary, address: str) -> grpc.aio.Server:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_BookthiefServiceServicer_to_server(BookthiefService(diary), server)
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigurationError("cannot listen on this address", got=address, hint=str(error)) from error
    return server


async def _asked_to_stop() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    run("bookthief", serve)
