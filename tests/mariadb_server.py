"""A MariaDB server of the tests' own: private data directory, loopback only, ended by its process id."""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import ipaddress
import itertools
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

USER, PASSWORD = "coordinator", "a pass/word@of:tests"
_START_SECONDS = 60


class MariaDbServer:
    """Runs until `stop`; `start` runs it again on the same data and port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = _short_socket_path(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.ca = folder / "ca.pem"
        _make_certificates(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        installed = subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={folder / 'data'}",
                f"--user={getpass.getuser()}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            check=False,
            capture_output=True,
            text=True,
        )
        if installed.returncode:
            raise RuntimeError(f"{installed.stdout[-1000:]}{installed.stderr[-1000:]}")
        self.start()
        self.run(
            "DELETE FROM mysql.global_priv WHERE User = ''",
            "FLUSH PRIVILEGES",
            f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON `test\\_%`.* TO '{USER}'@'%'",
        )

    def start(self) -> None:
        """Returns when it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "mariadbd",
                    "--no-defaults",
                    f"--datadir={self._folder / 'data'}",
                    f"--user={getpass.getuser()}",
                    f"--socket={self._socket}",
                    f"--pid-file={self._folder / 'pid'}",
                    "--bind-address=127.0.0.1",
                    f"--port={self.port}",
                    f"--ssl-cert={self._folder / 'server.pem'}",
                    f"--ssl-key={self._folder / 'server.key'}",
                    "--skip-name-resolve",
                    "--innodb-buffer-pool-size=16M",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether it accepts connections. PyMySQL itself forgets its socket when it cannot connect."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return Path(self._socket).exists()
        return False

    def stop(self) -> None:
        """Ends it in order."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_START_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Ends it as a loss of power would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_START_SECONDS)
            self._process = None

    def run(self, *statements: str) -> list[tuple]:
        """Runs statements as its administrator; returns the rows of the last one."""
        with (
            contextlib.closing(pymysql.connect(unix_socket=self._socket, user="root", autocommit=True)) as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def new_database(self) -> str:
        """The URL of an empty database, for `SqlStore`."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE `{name}`")
        return self.url_of(name)

    def url_of(self, database: str, *, password: str = PASSWORD) -> str:
        """The URL of a database; it need not exist. With `?ssl_ca={ca}` after it, over TLS."""
        quoted = "".join(f"%{byte:02X}" for byte in password.encode())
        return f"mariadb://{USER}:{quoted}@127.0.0.1:{self.port}/{database}"


def _make_certificates(folder: Path) -> None:
    """`ca.pem`, and `server.pem` with `server.key` for 127.0.0.1."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("tests' CA", "database"))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    for file, subject, public_key, extension in (
        ("ca.pem", ca_name, ca_key.public_key(), x509.BasicConstraints(ca=True, path_length=None)),
        ("server.pem", name, key.public_key(), address),
    ):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(ca_key, hashes.SHA256())
        )
        (folder / file).write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "server.key").write_bytes(pem)


def _short_socket_path(folder: Path) -> str:
    """Paths of sockets are limited to some 100 bytes."""
    path = folder / "s"
    return str(path) if len(str(path)) < 100 else f"/tmp/{folder.name}-{os.getpid()}.sock"


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDbServer]:
    """A running server. Skips where MariaDB is not installed, but not on a build server."""
    if shutil.which("mariadbd") is None:
        message = "MariaDB is not installed: apt-get install mariadb-server"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    server = MariaDbServer(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.stop()
