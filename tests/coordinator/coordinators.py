"""What the tests of the running coordinator share: identities, a manifest, a client."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import yarl
from cryptography import x509

from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from coordinator.app import Coordinator

SIGNER = bytes(range(32))
COORDINATOR = EnclaveIdentity(mr_enclave=b"C" * 32, mr_signer=SIGNER, product_id=1, security_version=1)
BOOKSTORE = EnclaveIdentity(mr_enclave=b"S" * 32, mr_signer=SIGNER, product_id=3, security_version=2)
STRANGER = EnclaveIdentity(mr_enclave=b"X" * 32, mr_signer=b"Y" * 32, product_id=3, security_version=9)


def manifest(**changes: Any) -> bytes:
    """A manifest with one package and two types of marbles; `changes` replace sections."""
    document = {
        "Packages": {"bookstore": {"SignerID": SIGNER.hex(), "ProductID": 3, "SecurityVersion": 2}},
        "Marbles": {
            "bookstore": {
                "Package": "bookstore",
                "Parameters": {
                    "Files": {"/etc/shared": "{{ hex .Secrets.shared }}"},
                    "Env": {"GREETING": "hello", "OWN": "{{ hex .Secrets.own }}"},
                    "Argv": ["bookstore", "--serve"],
                },
            },
            "limited": {"Package": "bookstore", "MaxActivations": 2, "Parameters": {}},
        },
        "Secrets": {
            "shared": {"Type": "symmetric-key", "Size": 256, "Shared": True},
            "own": {"Type": "symmetric-key", "Size": 128},
        },
    }
    return json.dumps(document | changes).encode()


@dataclass
class Client:
    """Of the client API."""

    http: aiohttp.ClientSession
    port: int

    async def ask(self, method: str, path: str, **rest: Any) -> tuple[int, Any, aiohttp.ClientResponse]:
        """Status, JSON body and response."""
        async with self.http.request(method, f"https://127.0.0.1:{self.port}{path}", **rest) as response:
            body = await response.read()
            return response.status, json.loads(body) if body else None, response

    async def raw(self, method: str, path: str, body: bytes | None = None, **rest: Any) -> tuple[int, str, bytes]:
        """Status, content type and body, as they are on the wire."""
        url = yarl.URL(f"https://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.http.request(method, url, data=body, **rest) as response:
            return response.status, response.headers["Content-Type"], await response.read()

    async def post(self, path: str, content: Any = None) -> tuple[int, Any]:
        """Status and JSON body; bytes are sent as they are, anything else as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, answer, _ = await self.ask("POST", path, data=body)
        return status, answer

    async def data(self, path: str) -> Any:
        status, body, _ = await self.ask("GET", path)
        assert status == 200, body
        assert body["status"] == "success"
        return body["data"]

    async def set_manifest(self, raw: bytes) -> tuple[int, Any]:
        body = {"manifest": base64.b64encode(raw).decode()}
        status, answer, _ = await self.ask("POST", "/api/v2/manifest", json=body)
        return status, answer


def client_of(
    coordinator: Coordinator, tls: ssl.SSLContext | None = None
) -> contextlib.AbstractAsyncContextManager[Client]:
    return client_at(coordinator.client_port, tls)


@contextlib.asynccontextmanager
async def client_at(port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """A client that does not verify: what it is shown is checked by the tests. Anonymous without `tls`."""
    if tls is None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
        yield Client(session, port)


async def set_manifest(coordinator: Coordinator, raw: bytes) -> None:
    async with client_of(coordinator) as client:
        status, answer = await client.set_manifest(raw)
    assert status == 200, answer


async def page(port: int, path: str) -> tuple[int, str]:
    """A page of the monitoring port."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


def certificates(pem: bytes) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem)
