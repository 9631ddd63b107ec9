"""TLS for servers that must see a client certificate which no CA vouches for.

MarbleRun's listeners take any client certificate and judge its bytes themselves: the Marble API finds its SHA-256 in a
quote, the client API compares it with the users of the manifest. Python's `ssl` and grpcio cannot do that: they verify
the chain or do not ask. Here pyOpenSSL stands in for `ssl` behind asyncio, which needs no more of what it is given as
`ssl=` than `wrap_bio`.

What is checked: the peer holds the key of the certificate it shows (TLS CertificateVerify). What is never checked here:
issuer, names, validity. Connections are never resumed, so the certificate is proven anew on each one.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto

P = ParamSpec("P")
T = TypeVar("T")

# AES-GCM only, as MarbleRun in FIPS mode.
_TLS12_CIPHERS = b"ECDHE+AESGCM"
_TLS13_CIPHERS = b"TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"
_RECORD = 16 * 1024 + 1024  # no TLS record is longer


class ClientCertificate(enum.IntFlag):
    """Whether a client must show a certificate; any will do."""

    OPTIONAL = SSL.VERIFY_PEER
    REQUIRED = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT


class AnyClientCertContext:
    """A TLS server context for `asyncio` (`ssl=`). It serves one certificate, which can be exchanged at any time.

    Connections that are open keep the certificate they began with.
    """

    def __init__(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        *,
        client_certificate: ClientCertificate,
        alpn: Sequence[bytes],
    ) -> None:
        self._client_certificate = client_certificate
        self._alpn = tuple(alpn)
        self.serve(certificate, key)

    def serve(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Show this certificate, alone, from the next connection on."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(_TLS12_CIPHERS)
        context.set_tls13_ciphersuites(_TLS13_CIPHERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.check_privatekey()
        context.set_verify(int(self._client_certificate), lambda *_: True)
        context.set_alpn_select_callback(self._select_alpn)
        self._context = context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # the signature of `ssl.SSLContext`
        server_hostname: str | None = None,  # noqa: ARG002  # likewise
    ) -> _ServerConnection:
        """What asyncio calls once per connection."""
        if not server_side:
            raise ssl.SSLError("this context serves only")
        return _ServerConnection(SSL.Connection(self._context, None), incoming, outgoing)

    def _select_alpn(self, _connection: SSL.Connection, offered: list[bytes]) -> Any:
        return next((name for name in self._alpn if name in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


class _TlsProtocol(sslproto.SSLProtocol):
    """asyncio's TLS. It keeps a buffer of 256 KiB for every connection, also for those that never say anything."""

    max_size = _RECORD


async def serve_tls(
    accepted: socket.socket,
    protocol: asyncio.Protocol,
    context: AnyClientCertContext,
    *,
    handshake_seconds: float,
    close_seconds: float,
) -> None:
    """What the event loop's `connect_accepted_socket` does with `ssl=`, in less memory: returns after the handshake.

    Args:
        accepted: a connection; it is taken over.
        protocol: gets what was decrypted.
        context: for the handshake.
        handshake_seconds: it may take.
        close_seconds: to wait for the peer's close_notify.

    Raises:
        OSError: the handshake failed, as `ssl.SSLError`, or took too long.
    """
    loop = asyncio.get_running_loop()
    shaken: asyncio.Future[None] = loop.create_future()
    tls = _TlsProtocol(
        loop,
        protocol,
        cast(ssl.SSLContext, context),  # asyncio only calls `wrap_bio`; its type hints name the one class that it ships
        shaken,
        server_side=True,
        ssl_handshake_timeout=handshake_seconds,  # type: ignore[arg-type]  # any number will do; typeshed says int
        ssl_shutdown_timeout=close_seconds,
    )
    transport, _ = await loop.connect_accepted_socket(lambda: tls, accepted)
    try:
        await shaken
    except BaseException:
        transport.close()
        raise


class _ServerConnection:
    """The part of `ssl.SSLObject` that `asyncio.sslproto` uses, on a pyOpenSSL connection without a socket."""

    def __init__(self, connection: SSL.Connection, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        connection.set_accept_state()
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing
        self._refused: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._refused:
            raise self._refused
        if not self._incoming.pending:
            # A server always waits for the client; OpenSSL would do so with 34 kB for each that never says anything.
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more data is needed")
        try:
            self._run(self._connection.do_handshake)
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            if not self._outgoing.pending:
                raise
            # asyncio throws pending bytes away when a handshake fails, and with them the alert that tells the peer why.
            # "Want read" makes it send them; the peer's close or the handshake timeout ends the connection.
            self._refused = error
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "alert sent") from error

    def read(self, size: int, buffer: memoryview | None = None) -> int | bytes:
        """Decrypted bytes; 0 or b"" once the peer has closed."""
        try:
            if buffer is None:
                return self._run(self._connection.recv, size)
            return self._run(self._connection.recv_into, buffer, size)
        except SSL.ZeroReturnError:
            return b"" if buffer is None else 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """How many bytes were taken; asyncio comes again with the rest."""
        return self._run(self._connection.send, bytes(data))

    def unwrap(self) -> None:
        if not self._run(self._connection.shutdown):
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "the peer has not closed")

    def getpeercert(self, binary_form: bool = False) -> bytes | dict[str, Any] | None:
        """DER if asked for; else, as `ssl` does for a certificate it has not verified, an empty dict.

        Nothing is parsed, so that no certificate, however odd, ends a connection here.
        """
        certificate = self._connection.get_peer_certificate()
        if certificate is None:
            return None
        return crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate) if binary_form else {}

    def cipher(self) -> tuple[str | None, str | None, int | None]:
        connection = self._connection
        return connection.get_cipher_name(), connection.get_protocol_version_name(), connection.get_cipher_bits()

    def compression(self) -> None:
        """Never."""

    def selected_alpn_protocol(self) -> str | None:
        return self._connection.get_alpn_proto_negotiated().decode() or None

    def _run(self, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs one TLS operation between the two memory BIOs, with the exceptions of `ssl`."""
        while arrived := self._incoming.read():
            self._connection.bio_write(arrived)
        try:
            return operation(*args, **kwargs)
        except SSL.WantReadError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more data is needed") from None
        except SSL.ZeroReturnError:
            raise
        except SSL.SysCallError as error:
            raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, str(error)) from None
        except SSL.Error as error:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, _reason(error)) from None
        finally:
            self._drain()

    def _drain(self) -> None:
        try:
            while True:
                self._outgoing.write(self._connection.bio_read(_RECORD))
        except SSL.WantReadError:
            pass


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words: the last field of the first (library, function, reason) on its error queue."""
    queue = error.args[0] if error.args else []
    return str(queue[0][-1]) if queue else "TLS failed"


def peer_certificate_der(transport: asyncio.BaseTransport | None) -> bytes | None:
    """The certificate that the other end of this connection has proven to hold, in DER; None if it showed none."""
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    return connection.getpeercert(True) if connection is not None else None
