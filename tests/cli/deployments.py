"""A real coordinator in a thread, a data owner's files, and `cbs` as a person would call it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import io
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from cli.__main__ import main
from confidential_bookstore.attestation.collateral import DirectoryCollateral
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.attestation.simulation.in_process import InProcessPlatform
from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform
from confidential_bookstore.attestation.verifier import Verifier
from coordinator.app import Coordinator
from coordinator.settings import CoordinatorSettings

SIGNER = bytes(range(32))
COORDINATOR = EnclaveIdentity(mr_enclave=b"C" * 32, mr_signer=SIGNER, product_id=1, security_version=2)
POLICY = {"SignerID": SIGNER.hex(), "ProductID": 1, "SecurityVersion": 2}
USERS = ("alice", "bob", "reader")
KEY_HOLDERS = ("kim", "lou", "max")


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str
    raw: bytes

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def cbs(*arguments: object) -> Said:
    """`cbs` with standard output piped."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    argv = ["cbs", *map(str, arguments)]
    code: Any = 0
    with mock.patch("sys.argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        out.flush()
        raw = out.buffer.getvalue()
    return Said(code, raw.decode("utf-8", "replace"), err.getvalue(), raw)


@dataclass
class Deployment:
    """A folder with all that a data owner has, and coordinators on one simulated machine."""

    folder: Path
    machine: SimulatedPlatform
    identity: EnclaveIdentity = COORDINATOR
    port: int = 0
    status_port: int = 0
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "collateral").mkdir(parents=True)
        self.write("policy.json", json.dumps(POLICY))
        self.write("machine.pem", self.machine.root_pem)
        fmspc = parse_quote(self.machine.quote_sgx(COORDINATOR, bytes(64))).fmspc
        collateral = DirectoryCollateral(self.folder / "collateral").file_for(fmspc, "SGX")
        collateral.write_text(self.machine.collateral("SGX").to_json())
        for name in USERS:
            key, certificate = _user(name)
            self.write(f"{name}.pem", certificate)
            self.write(f"{name}.key", key)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    @property
    def connection(self) -> list[object]:
        """Options that say it all, without a context."""
        return [
            *("--coordinator", f"127.0.0.1:{self.port}", "--policy", self.folder / "policy.json"),
            *("--trust-root", self.folder / "machine.pem", "--collateral", self.folder / "collateral"),
        ]

    def as_user(self, name: str) -> list[object]:
        return ["--user-cert", self.folder / f"{name}.pem", "--user-key", self.folder / f"{name}.key"]

    def recovery_keys(self) -> dict[str, str]:
        """Public keys in PEM; the private ones become files NAME.recovery.pem."""
        public = {}
        for name in KEY_HOLDERS:
            key = self.keys[name] = self.keys.get(name) or rsa.generate_private_key(65537, 2048)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            self.write(f"{name}.recovery.pem", pem)
            public[name] = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return public

    def manifest(self, **changes: Any) -> bytes:
        """Two updaters who must agree, a reader and writer of secrets; `changes` replace sections."""
        certificates = {name: (self.folder / f"{name}.pem").read_text() for name in USERS}
        document: dict[str, Any] = {
            "Packages": {"bookstore": {"SignerID": SIGNER.hex(), "ProductID": 3, "SecurityVersion": 2}},
            "Marbles": {"bookstore": {"Package": "bookstore"}},
            "Secrets": {
                "shared": {"Type": "symmetric-key", "Size": 256, "Shared": True},
                "api_token": {"Type": "plain", "UserDefined": True},
                "server": {"Type": "cert-ecdsa", "Size": 256, "UserDefined": True},
            },
            "Users": {
                "alice": {"Certificate": certificates["alice"], "Roles": ["update", "versions"]},
                "bob": {"Certificate": certificates["bob"], "Roles": ["update"]},
                "reader": {"Certificate": certificates["reader"], "Roles": ["secrets", "writing"]},
            },
            "Roles": {
                "update": {"ResourceType": "Manifest", "Actions": ["UpdateManifest"]},
                "versions": {
                    "ResourceType": "Packages",
                    "ResourceNames": ["bookstore"],
                    "Actions": ["UpdateSecurityVersion"],
                },
                "secrets": {
                    "ResourceType": "Secrets",
                    "ResourceNames": ["shared", "api_token", "server"],
                    "Actions": ["ReadSecret"],
                },
                "writing": {
                    "ResourceType": "Secrets",
                    "ResourceNames": ["api_token", "server"],
                    "Actions": ["WriteSecret"],
                },
            },
        }
        return json.dumps(document | changes).encode()

    @contextlib.contextmanager
    def running(self, **settings: Any) -> Iterator[Coordinator]:
        """A coordinator; its ports are this deployment's from then on."""
        configured = CoordinatorSettings(
            seal_directory=self.folder / "sealed",
            mesh_address=("127.0.0.1", 0),
            client_address=("127.0.0.1", 0),
            status_address=("127.0.0.1", 0),
        )
        platform = InProcessPlatform(self.machine, self.identity)
        verifier = Verifier(TrustRoot.from_pem(self.machine.root_pem), DirectoryCollateral(self.folder / "collateral"))
        coordinator = Coordinator(dataclasses.replace(configured, **settings), platform=platform, verifier=verifier)
        with _in_thread(coordinator):
            self.port, self.status_port = coordinator.client_port, coordinator.status_port or 0
            yield coordinator


@contextlib.contextmanager
def _in_thread(coordinator: Coordinator) -> Iterator[None]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(coordinator.__aenter__(), loop).result(30)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(coordinator.__aexit__(None, None, None), loop).result(30)
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


_USERS: dict[str, tuple[bytes, bytes]] = {}


def _user(name: str) -> tuple[bytes, bytes]:
    """Private key and certificate in PEM."""
    if name not in _USERS:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _USERS[name] = pem, self_signed(name, key).public_bytes(Encoding.PEM)
    return _USERS[name]


def self_signed(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    return builder.sign(key, hashes.SHA256())


def options(values: Mapping[str, object]) -> list[object]:
    return [part for name, value in values.items() for part in (f"--{name}", value)]
