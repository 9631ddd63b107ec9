"""A marble that does nothing but activate, again and again, at the least cost for itself.

One key, one certificate, one quote, used on every connection; the coordinator cannot tell. HTTP/2 is written by hand:
a request is the same bytes each time but for the number of its stream, and only `grpc-status` of an answer is read.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hpack import Decoder
from OpenSSL import SSL

from confidential_bookstore.api.marblerun.v1 import marble_pb2
from confidential_bookstore.marble.activation_key import ActivationKey

_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0x0, 0x1, 0x4, 0x6, 0x7, 0x8
_ACK = END_STREAM = 0x1
_END_HEADERS = 0x4
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_ALL_WINDOW = struct.pack(">I", (1 << 31) - 1 - 65535)  # added to what a connection begins with
_REQUEST_HEADERS: Final = (
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/rpc.Marble/Activate"),
    (":authority", "127.0.0.1"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
)
_RECEIVE = 64 << 10
_SECONDS = struct.pack("ll", 30, 0)  # a `timeval`: no read or write waits longer


class ActivationRefused(RuntimeError):
    """The coordinator answered, but with no activation, or with something that is not HTTP/2."""


def client_context(key: ActivationKey) -> SSL.Context:
    """TLS that shows the marble's certificate and, as only its cost matters here, does not verify the server."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_certificate(x509.load_der_x509_certificate(key.certificate_der))
    private_key = load_pem_private_key(key.private_key_pem.reveal(), None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    context.use_privatekey(private_key)
    context.set_alpn_protos([b"h2"])
    return context


def activation_message(key: ActivationKey, quote: bytes, marble_type: str, uuid: str) -> bytes:
    """A gRPC message, with its prefix."""
    request = marble_pb2.ActivationReq(Quote=quote, CSR=key.request_der, MarbleType=marble_type, UUID=uuid)
    encoded = request.SerializeToString()
    return struct.pack(">BI", 0, len(encoded)) + encoded


class ActivationChannel:
    """One TLS connection, blocking, with one request at a time; opened by `with`.

    Raises:
        ActivationRefused: see there.
        OSError: there is no connection.
    """

    def __init__(self, context: SSL.Context, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _SECONDS)
        self._socket.settimeout(None)
        self._tls = SSL.Connection(context, self._socket)
        self._tls.set_connect_state()
        self._tls.do_handshake()
        self._hello = _PREFACE + _frame(_SETTINGS, 0, 0) + _frame(_WINDOW_UPDATE, 0, 0, _ALL_WINDOW)
        self._headers = Decoder()
        self._received = b""
        self._stream = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def activate(self, message: bytes) -> int:
        """Sends an `activation_message`; returns the size of the answer in bytes."""
        self._stream += 2
        request = _frame(_HEADERS, _END_HEADERS, self._stream, _REQUEST_BLOCK)
        self._tls.sendall(self._hello + request + _frame(_DATA, END_STREAM, self._stream, message))
        self._hello = b""
        return self._answer()

    def _answer(self) -> int:
        size, status = 0, b""
        for kind, flags, payload in self._frames():
            if kind == _DATA:
                size += len(payload)
            elif kind == _HEADERS:
                fields = dict(self._headers.decode(payload, raw=True))
                status = fields.get(b"grpc-status", status)
                if flags & END_STREAM:
                    if status != b"0":
                        raise ActivationRefused(f"grpc-status {status!r}: {fields.get(b'grpc-message')!r}")
                    return size
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._tls.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
            elif kind not in (_SETTINGS, _PING, _WINDOW_UPDATE):
                break
        raise ActivationRefused("the connection is at its end")

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        while True:
            header, payload = self._take(9), b""
            size, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
            if size:
                payload = self._take(size)
            yield kind, flags, payload

    def _take(self, size: int) -> bytes:
        while len(self._received) < size:
            self._received += self._tls.recv(_RECEIVE)
        taken, self._received = self._received[:size], self._received[size:]
        return taken


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of RFC 9113."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(text: str) -> bytes:
    assert len(text) < 127  # a length of one byte
    return bytes([len(text)]) + text.encode()


# RFC 7541, "literal header field without indexing": it leaves no state behind, so it can be sent again as it is.
_REQUEST_BLOCK = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in _REQUEST_HEADERS)
