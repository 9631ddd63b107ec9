"""What the bookstore's own log says about those it did not let in.

gRPC ends a failed handshake by closing the connection and tells the other side nothing; the reason is in the victim's
log only, as a line of BoringSSL's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_REFUSAL = re.compile(rb"Handshake failed.*OPENSSL_internal:(\w+)(?:: ([\w ]+))?")
NO_CERTIFICATE = "PEER_DID_NOT_RETURN_A_CERTIFICATE"
NOT_VERIFIED = "CERTIFICATE_VERIFY_FAILED"


@dataclass(frozen=True, slots=True)
class Door:
    """The log of a marble, from a position on."""

    log: Path
    position: int

    @classmethod
    def watch(cls, log: Path) -> Door:
        """From now on."""
        return cls(log, log.stat().st_size if log.exists() else 0)

    def refusals(self) -> list[str]:
        """The reasons for refused handshakes since then, for example `CERTIFICATE_VERIFY_FAILED: self signed ...`."""
        with self.log.open("rb") as file:
            file.seek(self.position)
            found = _REFUSAL.findall(file.read())
        return [b": ".join(filter(None, words)).decode() for words in found]
