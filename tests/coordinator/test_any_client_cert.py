from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from independent_marble import IndependentMarble
from raw_connection import closed_by_peer, connected

from coordinator.transport.tls import AnyClientCertContext, ClientCertificate, peer_certificate_der


def anybody() -> IndependentMarble:
    return IndependentMarble("anybody", bytes)


SERVER = anybody()


def serving(client_certificate: ClientCertificate, alpn=(b"h2",)) -> AnyClientCertContext:
    return AnyClientCertContext(SERVER.certificate, SERVER.key, client_certificate=client_certificate, alpn=alpn)


@contextlib.asynccontextmanager
async def echo(context: AnyClientCertContext):
    """Echoes to the end of the stream; `seen` has the certificate of each connection."""
    seen: list[bytes | None] = []

    async def serve(reader, writer):
        seen.append(peer_certificate_der(writer.transport))
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=5)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()


async def exchange(port: int, tls: ssl.SSLContext, data: bytes = b"hello") -> tuple[bytes, ssl.SSLObject]:
    async with connected(port, tls) as (reader, writer):
        writer.write(data)
        answer = await asyncio.wait_for(reader.readexactly(len(data)), 10)
        return answer, writer.get_extra_info("ssl_object")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_any_certificate_is_taken_and_shown(version):
    client = anybody()
    tls = client.tls()
    tls.minimum_version = tls.maximum_version = version
    async with echo(serving(ClientCertificate.REQUIRED)) as (port, seen):
        answer, connection = await exchange(port, tls)
    assert answer == b"hello"
    assert seen == [client.certificate.public_bytes(Encoding.DER)]
    assert connection.cipher()[0] in ("TLS_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384")
    assert connection.selected_alpn_protocol() == "h2"


async def test_without_a_certificate_the_client_is_told_why():
    async with echo(serving(ClientCertificate.REQUIRED)) as (port, seen):
        with pytest.raises(ssl.SSLError) as refused:
            await exchange(port, anybody().tls(show_certificate=False))
    assert refused.value.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert seen == []


async def test_without_a_certificate_tls_1_2_fails_in_the_handshake():
    tls = anybody().tls(show_certificate=False)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    async with echo(serving(ClientCertificate.REQUIRED)) as (port, _):
        with pytest.raises(ssl.SSLError) as refused:
            await exchange(port, tls)
    assert "HANDSHAKE_FAILURE" in refused.value.reason


async def test_an_optional_certificate_may_be_missing():
    client = anybody()
    async with echo(serving(ClientCertificate.OPTIONAL)) as (port, seen):
        await exchange(port, client.tls(show_certificate=False))
        await exchange(port, client.tls())
    assert seen == [None, client.certificate.public_bytes(Encoding.DER)]


async def test_old_protocols_and_other_ciphers_are_refused():
    tls = anybody().tls()
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-SHA384")
    async with echo(serving(ClientCertificate.REQUIRED)) as (port, _):
        with pytest.raises(ssl.SSLError) as refused:
            await exchange(port, tls)
    assert "HANDSHAKE_FAILURE" in refused.value.reason


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_connection_resumes_another(version):
    """A resumed one would show the certificate of the first."""
    tls = anybody().tls()
    tls.minimum_version = tls.maximum_version = version
    async with echo(serving(ClientCertificate.REQUIRED)) as (port, seen):
        assert await asyncio.to_thread(reused, port, tls) == [False, False]
    assert len(seen) == 2


def reused(port: int, tls: ssl.SSLContext) -> list[bool]:
    """Connects twice, the second time with the session of the first; whether each was a resumption."""
    session, found = None, []
    for _ in range(2):
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            tls.wrap_socket(plain, session=session) as connection,
        ):
            connection.sendall(b"x")
            connection.recv(1)
            session = connection.session
            found.append(bool(connection.session_reused))
    return found


async def test_large_transfers_pass_whole():
    data = bytes(range(256)) * 20_000
    async with echo(serving(ClientCertificate.REQUIRED)) as (port, _):
        answer, _ = await exchange(port, anybody().tls(), data)
    assert answer == data


async def test_the_served_certificate_can_be_exchanged():
    context = serving(ClientCertificate.OPTIONAL)
    other = anybody()
    async with echo(context) as (port, _):
        async with connected(port, anybody().tls()) as (reader, writer):
            context.serve(other.certificate, other.key)
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            old = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            assert old == SERVER.certificate.public_bytes(Encoding.DER)
        _, connection = await exchange(port, anybody().tls())
        assert connection.getpeercert(binary_form=True) == other.certificate.public_bytes(Encoding.DER)


async def test_the_first_protocol_of_the_server_wins():
    tls = anybody().tls()
    tls.set_alpn_protocols(["http/1.1", "h2"])
    async with echo(serving(ClientCertificate.OPTIONAL, alpn=(b"h2", b"http/1.1"))) as (port, _):
        _, connection = await exchange(port, tls)
        assert connection.selected_alpn_protocol() == "h2"
        tls.set_alpn_protocols(["spdy/1"])
        _, connection = await exchange(port, tls)
        assert connection.selected_alpn_protocol() is None


async def test_garbage_instead_of_a_handshake_ends_the_connection():
    async with echo(serving(ClientCertificate.REQUIRED)) as (port, seen), connected(port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await closed_by_peer(reader, 2)
    assert seen == []


async def test_it_serves_only():
    with pytest.raises(ssl.SSLError, match="serves only"):
        serving(ClientCertificate.OPTIONAL).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


async def test_a_plain_connection_has_no_certificate():
    seen = []

    async def serve(_reader, writer):
        seen.append(peer_certificate_der(writer.transport))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, connected(server.sockets[0].getsockname()[1]) as (reader, _):
        assert await reader.read() == b""
    assert seen == [None]
    assert peer_certificate_der(None) is None
