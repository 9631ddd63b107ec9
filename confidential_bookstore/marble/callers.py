"""Who has called on which connection, and the end of the connections of those who may not call any longer.

TLS looks at a certificate once, when a connection is made; an update of the manifest may revoke it later. So every call
is judged again, and what is refused hears the reason, and shortly after loses its connections: also those on which it
does not call. One on which nobody has ever called is not known here, and harmless: its first call is judged, too.
"""

from __future__ import annotations

import asyncio

import structlog

from confidential_bookstore.errors import PolicyDenied
from confidential_bookstore.marble.connections import shut_down
from confidential_bookstore.marble.generations import REVOKED
from confidential_bookstore.marble.identity import LiveIdentity
from confidential_bookstore.marble.peer import Peer

DISCONNECT_SECONDS = 1.0  # between a refusal and the end of the connection, so that the caller hears why
_MOST = 4096

_log = structlog.get_logger()


class Callers:
    """The connections of one server.

    Args:
        live: judges the callers' certificates.
    """

    def __init__(self, live: LiveIdentity) -> None:
        self._live = live
        self._peers: dict[str, Peer] = {}  # by `context.peer()`, the address
        self._disconnecting: asyncio.Task[None] | None = None
        self.port = 0

    def refusal(self, peer: Peer) -> str | None:
        """Why this peer may not call any longer; None if it may."""
        return self._live.refusal(peer.issuer_key_id, peer.marble_type)

    def admit(self, address: str, peer: Peer) -> None:
        """Notes a call, and whose connection it came on.

        Raises:
            PolicyDenied: the peer's certificate is revoked; its connections end soon.
        """
        if self._peers.get(address) is not peer:  # for equal certificates it is the same object
            self._note(address, peer)
        if (reason := self.refusal(peer)) is not None:
            self.disconnect_refused()
            raise PolicyDenied(reason, rule=REVOKED)

    def disconnect_refused(self) -> None:
        """Ends the connections of all who may not call any longer, in `DISCONNECT_SECONDS`."""
        if self._disconnecting is None and self._refused():
            self._disconnecting = asyncio.get_running_loop().create_task(self._disconnect(), name="disconnect")

    async def close(self) -> None:
        """Ends nobody any more."""
        if self._disconnecting is not None:
            self._disconnecting.cancel()
            await asyncio.wait([self._disconnecting])

    def _note(self, address: str, peer: Peer) -> None:
        if len(self._peers) >= _MOST:  # the older half; who is still there is noted again with the next call
            for oldest in list(self._peers)[: _MOST // 2]:
                del self._peers[oldest]
        self._peers[address] = peer

    def _refused(self) -> dict[str, Peer]:
        return {address: peer for address, peer in self._peers.items() if self.refusal(peer) is not None}

    async def _disconnect(self) -> None:
        try:
            while self._refused():
                await asyncio.sleep(DISCONNECT_SECONDS)
                refused = self._refused()
                for address in refused:
                    del self._peers[address]
                ended = await asyncio.to_thread(shut_down, refused, self.port)
                types = sorted({peer.marble_type for peer in refused.values()})
                _log.warning("server.disconnected", marble_types=types, connections=ended, rule=REVOKED)
        finally:
            self._disconnecting = None
