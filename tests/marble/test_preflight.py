"""The preflight puts a name to every way in which TLS with a peer fails."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import socket
import ssl

import pytest
from marble_pki import MarblePki, certificate, key_pem_of, pem_of
from test_server_and_channel import Store

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.preflight import diagnose


async def cause_of(port: int, identity=None, expect="bookstore"):
    refused = await diagnose(f"127.0.0.1:{port}", identity, expect)
    return refused and refused.cause


async def test_nothing_is_wrong(world):
    server = await world.serve(Store())
    assert await cause_of(server.port, world.identity("bookbuyer")) is None


async def test_unreachable(world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused = await diagnose(f"127.0.0.1:{free.getsockname()[1]}", None, "bookstore")
    assert (refused.cause, refused.got) == ("unreachable", "Connection refused")
    assert "listens" in refused.hint


async def test_name_that_does_not_resolve():
    refused = await diagnose("bookstore.invalid:14001", None, "bookstore")
    assert refused.cause == "unreachable"
    assert "bookstore.invalid" in refused.message


async def test_malformed_address():
    with pytest.raises(ConfigurationError, match="host:port"):
        await diagnose("bookstore", None, "bookstore")


async def test_no_client_certificate(world):
    server = await world.serve(Store())
    assert await cause_of(server.port) == "no-client-certificate"


async def test_peer_of_another_deployment(world):
    server = await world.serve(Store(), live=LiveIdentity(world.identity("bookstore", MarblePki())))
    assert await cause_of(server.port, world.identity("bookbuyer")) == "unknown-ca"


async def test_malformed_certificate(world, malformed_server):
    async with malformed_server() as port:
        for identity in (None, world.identity("bookbuyer")):
            assert await cause_of(port, identity) == "malformed-certificate"


async def test_own_certificate_has_expired(world):
    server = await world.serve(Store())
    assert await cause_of(server.port, world.identity("bookbuyer", lifetime=-1)) == "expired"


async def test_peer_certificate_has_expired(world):
    server = await world.serve(Store(), live=LiveIdentity(world.identity("bookstore", lifetime=-1)))
    refused = await diagnose(f"127.0.0.1:{server.port}", world.identity("bookbuyer"), "bookstore")
    assert refused.cause == "expired"
    assert "shows an expired certificate" in refused.message


async def test_peer_certificate_is_not_valid_yet(world):
    live = LiveIdentity(world.identity("bookstore", age=-600))
    server = await world.serve(Store(), live=live)
    assert await cause_of(server.port, world.identity("bookbuyer")) == "not-yet-valid"


async def test_wrong_marble_type(world):
    server = await world.serve(Store(), live=LiveIdentity(world.identity("bookthief")))
    refused = await diagnose(f"127.0.0.1:{server.port}", world.identity("bookbuyer"), "bookstore")
    assert (refused.cause, refused.got, refused.expected) == ("wrong-marble-type", "bookthief", "bookstore")


async def test_own_certificate_is_of_another_deployment(world):
    """The peer is as expected, but shows the door: its root is known here, ours is unknown there."""
    other = MarblePki()
    server = await world.serve(Store())
    ours = world.identity("bookbuyer", other)
    mixed = dataclasses.replace(ours, marble_root_pem=pem_of(world.pki.marble_root))
    assert await cause_of(server.port, mixed) in ("unknown-ca", "certificate-refused")


async def served(context: ssl.SSLContext | None, answer: bytes = b"") -> tuple[asyncio.Server, int]:
    async def handle(reader, writer):
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1]


def server_context(tmp_path, chain: bytes, key: bytes) -> ssl.SSLContext:
    (tmp_path / "pem").write_bytes(key + chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    return context


async def test_plaintext_server():
    server, port = await served(None, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    async with server:
        assert await cause_of(port) == "not-tls"


async def test_old_tls(world, tmp_path):
    context = server_context(tmp_path, *world.pki.leaf("bookstore"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server, port = await served(context, b"hello")
    async with server:
        refused = await diagnose(f"127.0.0.1:{port}", world.identity("bookbuyer"), "bookstore")
    assert (refused.cause, refused.got) == ("tls-version", "TLSv1.2")


@pytest.mark.parametrize("marble_type", [None, "bookstore"])
async def test_certificate_without_marble_type_or_name(world, tmp_path, marble_type):
    key = MarblePki().key
    leaf = certificate(
        subject="u", key=key, issuer="MarbleRun Coordinator - Intermediate CA", issuer_key=world.pki.key,
        marble_type=marble_type,
    )  # fmt: skip
    server, port = await served(server_context(tmp_path, pem_of(leaf), key_pem_of(key)), b"hello")
    async with server:
        refused = await diagnose(f"127.0.0.1:{port}", world.identity("bookbuyer"), "bookstore")
    assert refused.cause == ("wrong-name" if marble_type else "wrong-marble-type")
    assert refused.got == ("no name" if marble_type else "no marble")


async def test_clock_is_a_parameter(world):
    server = await world.serve(Store())
    later = (dt.datetime.now(dt.UTC) + dt.timedelta(days=1)).timestamp()
    refused = await diagnose(f"127.0.0.1:{server.port}", None, "bookstore", clock=lambda: later)
    assert refused.cause == "expired"
