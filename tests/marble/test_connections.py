"""Shutting down a connection by its peer's address, with real sockets."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from confidential_bookstore.marble import connections
from confidential_bookstore.marble.connections import peer_address, shut_down


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("ipv6:%5B::1%5D:5000", ("::1", 5000)),
        ("ipv6:[::1]:5000", ("::1", 5000)),
        ("ipv6:%5B::ffff:127.0.0.1%5D:5000", ("127.0.0.1", 5000)),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", ("fe80::1", 5000)),
        ("unix:/tmp/x", None),
        ("ipv4:localhost:1", None),
        ("ipv4:127.0.0.1", None),
        ("", None),
    ],
)
def test_peer_address(peer, address):
    assert peer_address(peer) == address


@contextlib.contextmanager
def connected(family=socket.AF_INET, host="127.0.0.1", dial="127.0.0.1", dial_family=socket.AF_INET):
    """Accepted socket, dialling socket, the listener's port, and how gRPC would name the one that dialled."""
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.socket(dial_family) as dialled:
            dialled.settimeout(5)
            dialled.connect((dial, port))
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(5)
                yield accepted, dialled, port, dialled.getsockname()[1]


def test_the_peer_sees_the_end_and_others_do_not():
    with connected() as (_, dialled, port, own), connected() as (accepted, other, _, _):
        assert shut_down([f"ipv4:127.0.0.1:{own}"], port) == 1
        assert dialled.recv(1) == b""
        other.send(b"x")
        assert accepted.recv(1) == b"x"


def test_ipv4_on_a_socket_for_both():
    with connected(socket.AF_INET6, "::") as (accepted, dialled, port, own):
        assert accepted.getpeername()[0] == "::ffff:127.0.0.1"
        assert shut_down([f"ipv4:127.0.0.1:{own}"], port) == 1
        assert dialled.recv(1) == b""


def test_ipv6():
    with connected(socket.AF_INET6, "::1", "::1", socket.AF_INET6) as (_, dialled, port, own):
        assert shut_down([f"ipv6:%5B::1%5D:{own}"], port) == 1
        assert dialled.recv(1) == b""


def test_nothing_is_found():
    with connected() as (accepted, dialled, port, own):
        peer = f"ipv4:127.0.0.1:{own}"
        assert shut_down([], port) == 0
        assert shut_down([peer], port + 1) == 0  # a connection of another server in this process
        assert shut_down([f"ipv4:127.0.0.2:{own}", "unix:x", "nonsense"], port) == 0
        dialled.send(b"x")
        assert accepted.recv(1) == b"x"


def test_no_descriptor_is_left_open():
    before = len(list(Path("/proc/self/fd").iterdir()))
    with connected() as (_, _, port, own):
        shut_down([f"ipv4:127.0.0.1:{own}"], port)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_system_without_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(connections, "_DESCRIPTORS", tmp_path / "missing")
    with connected() as (_, _, port, own):
        assert shut_down([f"ipv4:127.0.0.1:{own}"], port) == 0
