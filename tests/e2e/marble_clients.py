"""Marbles that activate all the time, each over a connection of its own, and what they are given."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.const import Status
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError

ATTEMPTS = 6
_FIRST_PAUSE = 0.1  # seconds; doubled at every further attempt
_LOST = (OSError, TimeoutError, StreamTerminatedError, ProtocolError)


async def activate(marble: Any, port: int) -> tuple[Any, int]:
    """The parameters, and how many attempts it took. What another coordinator may do better is tried again.

    Raises:
        GRPCError: it is refused.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return await marble.activate(port), attempt
        except GRPCError as error:
            if error.status is not Status.UNAVAILABLE:
                raise
        except _LOST:
            pass
        await asyncio.sleep(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1))
    return await marble.activate(port), ATTEMPTS


async def outcome(marble: Any, port: int) -> Status | None:
    """Of one attempt: OK, why it is refused, or None if the connection was lost."""
    try:
        await marble.activate(port)
    except GRPCError as error:
        return error.status
    except _LOST:
        return None
    return Status.OK


@dataclass
class MarbleClients:
    """Many of them, until they are stopped. Use it as an async context manager; leaving raises what one of them did.

    Attributes:
        new_marble: makes one.
        port: of the Marble API.
        pause: of each one after an activation, in seconds.
        activations: that succeeded.
        repeated: those of them that took more than one attempt.
        roots: whose certificates they were given.
    """

    new_marble: Callable[[], Any]
    port: int
    count: int = 32
    pause: float = 0
    activations: int = 0
    repeated: int = 0
    failures: list[BaseException] = field(default_factory=list)
    roots: set[bytes] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._stopping, self._activated = False, asyncio.Event()
        self._clients = [asyncio.create_task(self._run()) for _ in range(self.count)]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._clients), 60)

    async def more(self, activations: int) -> None:
        """Returns when so many more have succeeded."""
        goal = self.activations + activations
        async with asyncio.timeout(40):
            while self.activations < goal:
                self._activated.clear()
                await self._activated.wait()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                parameters, attempts = await activate(self.new_marble(), self.port)
            except (GRPCError, *_LOST) as error:
                self.failures.append(error)
                continue
            self.activations += 1
            self.repeated += attempts > 1
            self._activated.set()
            self.roots.add(root_of(parameters))
            await asyncio.sleep(self.pause)


def root_of(parameters: Any) -> bytes:
    """The coordinator root that vouches for a marble, in DER, after its chain was verified."""
    env = parameters.Env
    leaf, intermediate = x509.load_pem_x509_certificates(env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])
    root = x509.load_pem_x509_certificate(env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"])
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    return root.public_bytes(Encoding.DER)
