"""Ends TCP connections of this process by the address of their peer.

grpc.aio says who is at the other end of a call, but cannot close one connection. So the socket is looked for among this
process's descriptors, and shut down through a duplicate: gRPC sees that the peer is gone, and closes its own. Nothing
that is not an established TCP connection to exactly that peer is touched; where nothing is found, nothing happens.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import urllib.parse
from collections.abc import Collection, Iterator
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")

Address = tuple[str, int]  # canonical: an IPv4 address that is mapped into IPv6 is written as IPv4


def peer_address(peer: str) -> Address | None:
    """The address in what `context.peer()` says, `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`; None for others."""
    family, _, rest = urllib.parse.unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if family not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _canonical(host.strip("[]"), int(port))


def shut_down(peers: Collection[str], local_port: int) -> int:
    """Ends the connections of these peers (as `context.peer()` names them) to a local port; returns how many it found.

    Blocking, but never for long: it looks once at each open descriptor.
    """
    wanted = {address for address in map(peer_address, peers) if address is not None}
    found = 0
    for connection in _tcp_sockets():
        with connection:
            try:
                local, remote = connection.getsockname(), connection.getpeername()
                if local[1] == local_port and _canonical(remote[0], remote[1]) in wanted:
                    connection.shutdown(socket.SHUT_RDWR)
                    found += 1
            except OSError:  # it is not connected, or not any longer
                continue
    return found


def _tcp_sockets() -> Iterator[socket.socket]:
    """A duplicate of each TCP socket of this process, to be closed by the caller."""
    try:
        numbers = [int(path.name) for path in _DESCRIPTORS.iterdir()]
    except OSError:
        return
    for number in numbers:
        try:
            # What a number stands for can change at any moment; only the duplicate is looked at from here on.
            duplicate = os.dup(number)
        except OSError:
            continue
        try:
            connection = socket.socket(fileno=duplicate)
        except OSError:  # no socket
            os.close(duplicate)
            continue
        if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.type == socket.SOCK_STREAM:
            yield connection
        else:
            connection.close()


def _canonical(host: str, port: int) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])  # without the interface of a link-local address
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address), port
