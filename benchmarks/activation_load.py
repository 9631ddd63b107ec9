"""Marbles that activate at the same time: the side of the load, to be run in a process of its own."""

from __future__ import annotations

import functools
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from OpenSSL import SSL

from benchmarks.activation_client import ActivationChannel, activation_message, client_context
from benchmarks.launched_coordinator import MARBLE
from confidential_bookstore.attestation.binding import marble_report_data
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.marble.activation_key import ActivationKey, new_activation_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to do: so many marbles of one type, each again and again, on a new channel each time or on one it keeps."""

    machine: Path
    port: int
    clients: int
    kept: bool
    marble_type: str = "bookstore"
    seconds: float = 1.0
    activations: int | None = None  # instead of seconds, in all


@dataclass(frozen=True, slots=True)
class Marble:
    """One instance with its certificate and its quote."""

    context: SSL.Context
    key: ActivationKey
    quote: bytes
    uuid: str


def run_load(load: Load) -> list[float]:
    """Milliseconds of each activation, with its handshake if the channel is new. The first failure is raised."""
    marbles = _marbles(load.machine)[: load.clients]
    end = time.monotonic() + load.seconds
    left = _Countdown(load.activations)
    with ThreadPoolExecutor(len(marbles)) as pool:
        times = pool.map(functools.partial(_activate_again_and_again, load, end, left), marbles)
        return [milliseconds for of_one in times for milliseconds in of_one]


class _Countdown:
    def __init__(self, count: int | None) -> None:
        self.unlimited = count is None
        self._left = count or 0
        self._lock = threading.Lock()

    def take(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0


def _activate_again_and_again(load: Load, end: float, left: _Countdown, marble: Marble) -> list[float]:
    message = activation_message(marble.key, marble.quote, load.marble_type, marble.uuid)
    times = []

    def wanted() -> bool:
        return time.monotonic() < end if left.unlimited else left.take()

    if load.kept:
        with ActivationChannel(marble.context, load.port) as channel:
            while wanted():
                started = time.perf_counter()
                channel.activate(message)
                times.append((time.perf_counter() - started) * 1e3)
    else:
        while wanted():
            started = time.perf_counter()
            with ActivationChannel(marble.context, load.port) as channel:
                channel.activate(message)
            times.append((time.perf_counter() - started) * 1e3)
    return times


@functools.cache
def _marbles(machine_folder: Path) -> list[Marble]:
    machine = SimulatedPlatform.load(machine_folder)
    return [new_marble(machine) for _ in range(32)]


def new_marble(machine: SimulatedPlatform) -> Marble:
    """A marble of the package that `MARBLE` is."""
    key = new_activation_key(["localhost"])
    quote = machine.quote_sgx(MARBLE, marble_report_data(key.certificate_der))
    return Marble(client_context(key), key, quote, str(uuid.uuid4()))
