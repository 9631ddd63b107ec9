"""Coordinators that share a state: each a launched enclave on a simulated machine and a loopback address of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import random
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.attestation.simulation.counters import MonotonicCounters
from confidential_bookstore.attestation.simulation.launcher import LaunchedEnclave, launch
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.simulation.signing import SignedEnclave
from confidential_bookstore.secret import Secret

sys.path.append(str(Path(__file__).parents[1] / "coordinator"))

_PROBE_SECONDS = 0.2
_START_SECONDS = 30.0


def another_machine(machine: SimulatedPlatform) -> SimulatedPlatform:
    """Of the same provisioning authority, so one root verifies both; it seals and counts for itself."""
    return dataclasses.replace(machine, fuse_key=Secret(os.urandom(32)), counters=MonotonicCounters())


@dataclass(frozen=True)
class Ports:
    """The same at every host, below those that the kernel gives to clients."""

    mesh: int
    client: int
    status: int
    keys: int

    @classmethod
    def free_at(cls, hosts: Iterable[str]) -> Ports:
        hosts, found = tuple(hosts), []
        for port in random.sample(range(20000, 32000), 2000):
            if all(_is_free(host, port) for host in hosts):
                found.append(port)
            if len(found) == len(dataclasses.fields(cls)):
                return cls(*found)
        raise AssertionError("no port is free")


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((host, port))
        return True
    return False


@dataclass(frozen=True)
class Answer:
    """Of a client API: status, and data or message."""

    status: int
    body: Any


class Replica:
    """One coordinator, which can be started again after its end."""

    def __init__(
        self,
        host: str,
        ports: Ports,
        *,
        signed: SignedEnclave,
        machine: SimulatedPlatform,
        env: Mapping[str, str],
        log: Path,
    ) -> None:
        self.host = host
        self.log = log
        self._ports = ports
        self._signed = signed
        self._machine = machine
        self._env = {
            "EDG_COORDINATOR_MESH_ADDR": f"{host}:{ports.mesh}",
            "EDG_COORDINATOR_CLIENT_ADDR": f"{host}:{ports.client}",
            "EDG_COORDINATOR_PROMETHEUS_ADDR": f"{host}:{ports.status}",
            "CBS_COORDINATOR_KEY_ADDR": f"{host}:{ports.keys}",
            "EDG_DISTRIBUTED_COORDINATOR": "1",
            "EDG_LOG_FORMAT": "json",
            **env,
        }
        self._enclave: LaunchedEnclave | None = None

    async def start(self) -> None:
        """Returns when it is launched; it may take a second until it serves."""
        with self.log.open("ab") as stream:
            self._enclave = await asyncio.to_thread(
                launch,
                self._signed.image,
                self._signed.signature,
                self._machine,
                env=self._env,
                stdout=stream,
                stderr=stream,
            )

    async def kill(self) -> None:
        """SIGKILL."""
        if self._enclave is not None:
            self._enclave.process.kill()
            await asyncio.to_thread(self._enclave.process.wait)
            self._enclave = None

    async def status(self) -> int | None:
        """The number of its state; None while it does not answer."""
        answer = await self.ask("/api/v2/status")
        return answer.body["code"] if answer else None

    async def reaches(self, status: int, *, within: float = _START_SECONDS) -> None:
        async def reached() -> bool:
            assert self._enclave is not None
            assert self._enclave.process.poll() is None, self.log.read_text()[-2000:]
            return await self.status() == status

        await eventually(reached, within=within, what=f"{self.host} in state {status}")

    async def ready(self) -> tuple[int, str]:
        """Of /readyz; 0 while it does not answer."""
        timeout = aiohttp.ClientTimeout(2)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.get(f"http://{self.host}:{self._ports.status}/readyz") as response,
            ):
                return response.status, await response.text()
        except (OSError, aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def ask(self, path: str, content: Any = None, *, user: Any = None) -> Answer | None:
        """GET, or POST with content, by this user; None if it does not answer."""
        tls = user.tls() if user else _believing()
        body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
        url, method = f"https://{self.host}:{self._ports.client}{path}", "GET" if body is None else "POST"
        timeout = aiohttp.ClientTimeout(20)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls), timeout=timeout) as http,
                http.request(method, url, data=body) as response,
            ):
                envelope = await response.json(content_type=None)
                return Answer(response.status, envelope["data"] or envelope.get("message"))
        except (OSError, aiohttp.ClientError):
            return None

    async def set_manifest(self, raw: bytes) -> Answer | None:
        return await self.ask("/api/v2/manifest", {"manifest": base64.b64encode(raw).decode()})

    async def update(self, packages: Mapping[str, int], user: Any) -> Answer | None:
        """Raises security versions."""
        versions = {"Packages": {name: {"SecurityVersion": version} for name, version in packages.items()}}
        raw = json.dumps(versions).encode()
        return await self.ask("/api/v2/update", {"manifest": base64.b64encode(raw).decode()}, user=user)

    async def root(self) -> bytes:
        """In DER, as its evidence says."""
        answer = await self.ask("/api/v2/quote")
        assert answer is not None
        return x509.load_pem_x509_certificates(answer.body["cert"].encode())[-1].public_bytes(Encoding.DER)

    async def shown(self) -> bytes:
        """The certificate that its client API serves, in DER."""
        _, writer = await asyncio.open_connection(self.host, self._ports.client, ssl=_believing())
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.close()
        await writer.wait_closed()
        return certificate

    def events(self, name: str) -> list[dict[str, Any]]:
        """Lines of its log."""
        lines = (line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("}\n"))
        return [event for event in map(json.loads, lines) if event["event"] == name]


class Cluster:
    """Replicas of one state. Use it as an async context manager: none is left behind.

    Args:
        hosts: one address for each.
        make: a replica at a host.
    """

    def __init__(self, hosts: Iterable[str], make: Callable[[str], Replica]) -> None:
        self.replicas = tuple(make(host) for host in hosts)
        self._ready: tuple[str, ...] = ()

    async def __aenter__(self) -> Self:
        self._probing = asyncio.create_task(self._probe())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._probing.cancel()
        await asyncio.gather(self._probing, return_exceptions=True)
        await asyncio.gather(*(replica.kill() for replica in self.replicas))

    async def start(self, *replicas: Replica) -> None:
        """These, or all, at the same time."""
        await asyncio.gather(*(replica.start() for replica in replicas or self.replicas))

    async def reaches(self, status: int, *, within: float = _START_SECONDS) -> None:
        """All of them."""
        await asyncio.gather(*(replica.reaches(status, within=within) for replica in self.replicas))

    def ready(self) -> tuple[str, ...]:
        """The hosts whose /readyz said yes when it was last asked."""
        return self._ready

    async def _probe(self) -> None:
        while True:
            answers = await asyncio.gather(*(replica.ready() for replica in self.replicas))
            pairs = zip(self.replicas, answers, strict=True)
            self._ready = tuple(replica.host for replica, (status, _) in pairs if status == 200)
            await asyncio.sleep(_PROBE_SECONDS)


async def eventually(holds: Callable[[], Any], *, within: float, what: str) -> float:
    """Returns how many seconds it took."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < within, f"not within {within} s: {what}"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


def _believing() -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls
