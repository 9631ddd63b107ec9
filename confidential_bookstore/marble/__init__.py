"""The runtime of a marble: what runs inside every enclave, and what other services can reuse as it is.

`Marble` is all that most services need; `current_peer()` tells a servicer who calls. Beneath it, one module per idea:
`coordinator_trust` and `activation` (getting in), `identity`, `renewal` and `credentials` (staying in), `generations`,
`generation_watch` and `enforcement` (hearing who is out), `server`, `interceptors`, `callers`, `peer` (being called),
`channel`, `split_channel`, `line_call`, `preflight` (calling), and `journal` (remembering). `premain` is for programs
that use none of this.
"""

from confidential_bookstore.marble.channel import MarbleChannel
from confidential_bookstore.marble.environment import MarbleSettings
from confidential_bookstore.marble.identity import Identity
from confidential_bookstore.marble.journal import Journal
from confidential_bookstore.marble.peer import Peer, current_peer
from confidential_bookstore.marble.runtime import Marble
from confidential_bookstore.marble.server import MarbleServer
from confidential_bookstore.marble.split_channel import SplitChannel

__all__ = [
    "Identity",
    "Journal",
    "Marble",
    "MarbleChannel",
    "MarbleServer",
    "MarbleSettings",
    "Peer",
    "SplitChannel",
    "current_peer",
]
