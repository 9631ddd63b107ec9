"""One HTTPS connection to a server whose very certificate is known, for requests that may wait long for their answer.

Verification by name or chain would not do: every marble has a certificate that leads to the coordinator's root. Just
enough of HTTP/1.1 for JSON that comes with its length; asyncio, because a thread that waits cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import http.client
import io
import ssl
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from confidential_bookstore.errors import CoordinatorUnavailable, CoordinatorUntrusted
from confidential_bookstore.marble.tls import split_address, unverified_context

_CONNECT_SECONDS = 10.0
_LARGEST_ANSWER = 1024 * 1024


class PinnedConnection:
    """Made by `open`; an async context manager that closes itself."""

    def __init__(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str, certificate: x509.Certificate) -> PinnedConnection:
        """Connects to `host:port`, and sends nothing unless the server has exactly this certificate and its key.

        Raises:
            CoordinatorUnavailable: no connection.
            CoordinatorUntrusted: it has another certificate.
        """
        host, port = split_address(address)
        context = unverified_context(alpn=("http/1.1",))
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(host, port, ssl=context)
        except (OSError, TimeoutError) as error:
            raise _unavailable(address, error) from error
        connection = cls(address, reader, writer)
        tls = writer.get_extra_info("ssl_object")
        served = tls.getpeercert(binary_form=True) if isinstance(tls, ssl.SSLObject) else None
        if served != certificate.public_bytes(Encoding.DER):
            connection.close()
            raise CoordinatorUntrusted(f"the server at {address} does not show the coordinator's certificate")
        return connection

    async def get(self, path: str, seconds: float) -> tuple[int, bytes]:
        """Status and body of the answer, which must come in so many seconds; of a status other than 200 no body.

        Raises:
            CoordinatorUnavailable: there is none, or one that this client does not understand.
        """
        try:
            async with asyncio.timeout(seconds):
                self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._address}\r\n\r\n".encode("ascii"))
                await self._writer.drain()
                return await self._answer()
        except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError, http.client.HTTPException) as e:
            raise _unavailable(self._address, e) from e

    def close(self) -> None:
        """Ends the connection."""
        self._writer.transport.abort()  # a TLS shutdown would wait for a peer that may be gone

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    async def _answer(self) -> tuple[int, bytes]:
        head = io.BytesIO(await self._reader.readuntil(b"\r\n\r\n"))
        version, status, *_ = head.readline().split(maxsplit=2)
        if version != b"HTTP/1.1":
            raise ValueError("not an answer of HTTP/1.1")
        if int(status) != http.client.OK:
            return int(status), b""
        length = int(http.client.parse_headers(head)["Content-Length"] or -1)
        if not 0 <= length <= _LARGEST_ANSWER:
            raise ValueError(f"an answer without its length, or of more than {_LARGEST_ANSWER} bytes")
        return int(status), await self._reader.readexactly(length)


def _unavailable(address: str, error: BaseException) -> CoordinatorUnavailable:
    return CoordinatorUnavailable(
        f"no answer from the coordinator's client API at {address}",
        got=getattr(error, "strerror", None) or str(error) or type(error).__name__,
    )
