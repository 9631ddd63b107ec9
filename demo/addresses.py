"""Are the demo's addresses free? Asked before anything starts, rather than have one service after the other fail."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from confidential_bookstore.errors import ConfigurationError


def require_free(addresses: Iterable[tuple[str, int]]) -> None:
    """Returns if nothing listens at any of them.

    Raises:
        ConfigurationError: something does.
    """
    for address in addresses:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise ConfigurationError(
                    "an address of the demo cannot be used",
                    got=f"{address[0]}:{address[1]}: {error.strerror}",
                    hint="stop what listens there, perhaps another demo, or use other addresses: --network 127.0.1",
                ) from error
