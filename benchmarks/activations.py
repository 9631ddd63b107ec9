"""Activations per second, and what they cost: `python -m benchmarks.activations`.

The coordinator is its own image, launched as a simulated enclave; its marbles are in another process; a third one, this
one, does the bare cryptography. All three alternate in short windows, so that a busy machine slows all. Rates per core
are per second of the coordinator's own CPU time, so that the load, which has the same cores, does not count.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import http.client
import json
import multiprocessing
import shutil
import ssl
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.activation_load import Load, run_load
from benchmarks.activation_steps import Step, bare_steps, mean_milliseconds, own_steps
from benchmarks.launched_coordinator import MARBLE, MeasuredCoordinator, launched_coordinator, sign_coordinator
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform

CLIENTS: Final = (1, 8, 32)
GOALS: Final = {
    "new_channel_ratio": 0.25,
    "kept_channel_ratio": 0.45,
    "status_p99_ms": 50.0,
    "unused_rsa_median_ms": 5.8,
}
_FEW, _MANY = 1_000, 10_000  # activations, between which memory may not grow
_PROBE_PAUSE = 0.02  # seconds between two requests for the status


def measure(seconds_per_window: float = 1.0, rounds: int = 5) -> dict[str, Any]:
    """Rates, latencies, ratios, memory and steps; times are in milliseconds."""
    folder = Path(tempfile.mkdtemp(prefix="activations-"))
    try:
        return asyncio.run(_measure(folder, seconds_per_window, rounds))
    finally:
        shutil.rmtree(folder)


def manifest(*, unused_rsa: bool) -> dict[str, Any]:
    """One marble as they usually are; on demand also an RSA-2048 secret for none, and RSA-4096 for another marble."""
    parameters = {
        "Files": {"/shared": "{{ hex .Secrets.shared }}", "/root.pem": "{{ pem .MarbleRun.RootCA.Cert }}"},
        "Env": {"GREETING": "hello", "OWN": "{{ hex .Secrets.own }}"},
        "Argv": ["bookstore"],
    }
    document: dict[str, Any] = {
        "Packages": {"bookstore": {"SignerID": MARBLE.mr_signer.hex(), "ProductID": 3, "SecurityVersion": 2}},
        "Marbles": {"bookstore": {"Package": "bookstore", "Parameters": parameters}},
        "Secrets": {
            "shared": {"Type": "symmetric-key", "Size": 256, "Shared": True},
            "own": {"Type": "symmetric-key", "Size": 128},
        },
    }
    if unused_rsa:
        document["Secrets"] |= {"unused": _rsa(2048), "slow": _rsa(4096)}
        slow = {"Env": {"KEY": "{{ pem .Secrets.slow.Private }}"}}
        document["Marbles"]["slow"] = {"Package": "bookstore", "Parameters": slow}
    return document


def _rsa(size: int) -> dict[str, Any]:
    return {"Type": "cert-rsa", "Size": size, "ValidFor": 10, "Cert": {"Subject": {"CommonName": "marble"}}}


@dataclass(frozen=True, slots=True)
class _Window:
    """What a load came to."""

    milliseconds: list[float]
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return len(self.milliseconds) / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """Of the coordinator, for one activation."""
        return self.cpu_seconds / len(self.milliseconds) * 1e3


@dataclass(frozen=True, slots=True)
class _Bench:
    """The processes that load coordinators; `activated` counts by coordinator."""

    machine: Path
    pool: ProcessPoolExecutor
    activated: collections.Counter[MeasuredCoordinator]

    async def load(self, coordinator: MeasuredCoordinator, **wanted: Any) -> _Window:
        load = Load(machine=self.machine, port=coordinator.mesh_port, **wanted)
        cpu, started = coordinator.cpu_seconds(), time.monotonic()
        times = await asyncio.get_running_loop().run_in_executor(self.pool, run_load, load)
        self.activated[coordinator] += len(times)
        return _Window(times, time.monotonic() - started, coordinator.cpu_seconds() - cpu)


def rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What was measured, the figure, and its goal."""
    for clients, row in results["clients"].items():
        for channel in ("new", "kept"):
            found = row[f"{channel}_channel"]
            ratio, low, high = found["ratio"]
            speed = f"{found['per_second']}/s, p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms"
            yield (
                f"activations / bare cryptography, per core, {channel} channel, {clients} at a time",
                f"{ratio} ({low} to {high}); {speed}",
                f"at least {GOALS[f'{channel}_channel_ratio']}",
            )
    few, many = results["resident_mb"].values()
    yield "resident coordinator after 1,000 / 10,000 activations", f"{few} / {many} MB", "no growth"
    for channel in ("new", "kept"):
        found = results["unused_rsa"][f"{channel}_channel"]
        yield (
            f"one activation beside an unused RSA-2048 secret / without it, {channel} channel",
            f"{found['with']['p50_ms']} / {found['without']['p50_ms']} ms",
            f"as without; under {GOALS['unused_rsa_median_ms']} ms",
        )
    busy = results["status"]["busy"]
    yield (
        "status while 32 marbles activate and RSA-4096 keys are made",
        f"p50 {busy['p50_ms']} ms, p99 {busy['p99_ms']} ms",
        f"p99 under {GOALS['status_p99_ms']:g} ms",
    )


async def _measure(folder: Path, seconds: float, rounds: int) -> dict[str, Any]:
    machine = SimulatedPlatform.create()
    machine.save(folder / "machine")
    signed = await asyncio.to_thread(sign_coordinator, machine)
    async with (
        launched_coordinator(signed, machine, folder / "plain", manifest(unused_rsa=False)) as plain,
        launched_coordinator(signed, machine, folder / "rsa", manifest(unused_rsa=True)) as with_rsa,
        _load_processes(folder / "machine") as bench,
    ):
        few = await _activate(bench, plain, _FEW)
        rates = await _rates(bench, plain, bare_steps(machine), seconds, rounds)
        many = await _activate(bench, plain, _MANY)
        return {
            "goals": GOALS,
            "clients": rates,
            "resident_mb": {f"after_{_FEW}": few, f"after_{_MANY}": many},
            "unused_rsa": await _unused_rsa(bench, plain, with_rsa, seconds, rounds),
            "status": await _status(bench, with_rsa, 8 * seconds),
            "steps_ms": _rounded(_steps(own_steps(machine, json.dumps(manifest(unused_rsa=False)).encode()), seconds)),
        }


@contextlib.asynccontextmanager
async def _load_processes(machine: Path) -> AsyncIterator[_Bench]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield _Bench(machine, pool, collections.Counter())


async def _activate(bench: _Bench, coordinator: MeasuredCoordinator, until: int) -> float:
    """Resident megabytes of the coordinator after at least so many in all; what is missing is half on new channels."""
    missing = max(0, until - bench.activated[coordinator])
    for kept in (False, True):
        await bench.load(coordinator, clients=8, kept=kept, activations=missing // 2)
    return coordinator.resident_mb()


async def _rates(
    bench: _Bench, coordinator: MeasuredCoordinator, bare: Mapping[str, Step], seconds: float, rounds: int
) -> dict[str, Any]:
    """By number of clients. `ratio` is CPU time of the bare cryptography by that of an activation, per round."""
    results = {}
    for clients in CLIENTS:
        new: list[_Window] = []
        kept: list[_Window] = []
        cryptography: list[dict[str, float]] = []
        for _ in range(rounds):
            new.append(await bench.load(coordinator, clients=clients, kept=False, seconds=seconds))
            cryptography.append(await asyncio.to_thread(mean_milliseconds, bare, seconds / 2))
            kept.append(await bench.load(coordinator, clients=clients, kept=True, seconds=seconds))
        results[str(clients)] = {
            "bare_ms": _rounded({name: statistics.median(row[name] for row in cryptography) for name in bare}),
            "new_channel": _summary(new, cryptography),
            "kept_channel": _summary(kept, cryptography),
        }
    return results


def _summary(windows: Sequence[_Window], cryptography: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    times = [milliseconds for window in windows for milliseconds in window.milliseconds]
    every, without = [], []
    for window, bare in zip(windows, cryptography, strict=True):
        total = sum(bare.values())
        every.append(total / window.cpu_milliseconds)
        without.append((total - bare["handshake"]) / window.cpu_milliseconds)
    return {
        "per_second": round(statistics.median(window.per_second for window in windows)),
        "per_second_and_core": round(statistics.median(1e3 / window.cpu_milliseconds for window in windows)),
        **_latency(times),
        "ratio": _median_and_range(every),
        "ratio_without_handshake": _median_and_range(without),
    }


async def _unused_rsa(
    bench: _Bench, plain: MeasuredCoordinator, with_rsa: MeasuredCoordinator, seconds: float, rounds: int
) -> dict[str, Any]:
    """One activation at a time, without and with an RSA-2048 secret that this marble does not use.

    `ratio` is of the medians of two windows, one after the other.
    """
    results = {}
    for channel, kept in (("new_channel", False), ("kept_channel", True)):
        times: dict[str, list[float]] = {"without": [], "with": []}
        ratios = []
        for _ in range(rounds):
            medians = []
            for name, coordinator in (("without", plain), ("with", with_rsa)):
                window = await bench.load(coordinator, clients=1, kept=kept, seconds=seconds)
                times[name] += window.milliseconds
                medians.append(statistics.median(window.milliseconds))
            ratios.append(medians[1] / medians[0])
        latencies = {name: _latency(of_one) for name, of_one in times.items()}
        results[channel] = latencies | {"ratio": _median_and_range(ratios)}
    return results


async def _status(bench: _Bench, coordinator: MeasuredCoordinator, seconds: float) -> dict[str, Any]:
    """Of GET /api/v2/status: alone, and while 32 marbles activate and RSA-4096 keys are made for another one."""
    alone = await asyncio.to_thread(_probe, coordinator.client_port, seconds / 5)
    usual, slow, busy = await asyncio.gather(
        bench.load(coordinator, clients=32, kept=False, seconds=seconds),
        bench.load(coordinator, clients=1, kept=True, seconds=seconds, marble_type="slow"),
        asyncio.to_thread(_probe, coordinator.client_port, seconds),
    )
    return {
        "alone": _latency(alone),
        "busy": _latency(busy),
        "requests": len(busy),
        "activations": len(usual.milliseconds),
        "rsa_4096_keys": len(slow.milliseconds),
    }


def _probe(port: int, seconds: float) -> list[float]:
    """Milliseconds of each request, one after the other on one connection."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=tls)
    times = []
    end = time.monotonic() + seconds
    with contextlib.closing(connection):
        connection.connect()
        while time.monotonic() < end:
            started = time.perf_counter()
            connection.request("GET", "/api/v2/status")
            connection.getresponse().read()
            times.append((time.perf_counter() - started) * 1e3)
            time.sleep(_PROBE_PAUSE)
    return times


def _steps(own: Mapping[str, Step], seconds: float) -> dict[str, float]:
    means = mean_milliseconds(own, 2 * seconds)
    means["secrets_and_templates"] = means.pop("parameters") - means["certificate"]
    return means


def _latency(milliseconds: Sequence[float]) -> dict[str, float]:
    p99 = statistics.quantiles(milliseconds, n=100)[-1]
    return {"p50_ms": round(statistics.median(milliseconds), 2), "p99_ms": round(p99, 2)}


def _median_and_range(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in (statistics.median(values), min(values), max(values))]


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
