"""A coordinator that answers what a test says, over real TLS with a root of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import json
import ssl
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass
class FakeCoordinator:
    """`answers` by method and path without query: a status and what is sent. Anything else is 405."""

    answers: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    users: list[bytes | None] = field(default_factory=list)
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    address: str = ""

    def __post_init__(self) -> None:
        self.root = self_signed("MarbleRun Coordinator", self.key)

    def says(self, method: str, path: str, data: Any) -> None:
        """A success."""
        self.answers[method, path] = (200, json.dumps({"status": "success", "data": data}).encode())

    def refuses(self, method: str, path: str, status: int, message: str = "") -> None:
        body = {"status": "error", "data": None} | ({"message": message} if message else {})
        self.answers[method, path] = (status, json.dumps(body).encode())

    def sign(self, raw: bytes) -> bytes:
        return self.key.sign(raw, ec.ECDSA(hashes.SHA256()))

    @contextlib.contextmanager
    def serving(self, client_ca: x509.Certificate | None = None) -> Iterator[FakeCoordinator]:
        """With `client_ca`, that certificate is asked for."""
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.asked.append((self.command, self.path, body))
                fake.users.append(self.connection.getpeercert(binary_form=True))  # type: ignore[attr-defined]
                status, answer = fake.answers.get(
                    (self.command, self.path.partition("?")[0]), (405, b'{"status":"error","data":null}')
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = answer  # noqa: N815  # the base class names them

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that go away
        server.socket = self._tls(client_ca).wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.address = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join(10)
            server.server_close()

    def _tls(self, client_ca: x509.Certificate | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            file.write(key + self.root.public_bytes(Encoding.PEM))
            file.flush()
            context.load_cert_chain(file.name)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=client_ca.public_bytes(Encoding.PEM).decode())
        return context


def self_signed(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    return builder.add_extension(x509.BasicConstraints(True, None), critical=True).sign(key, hashes.SHA256())
