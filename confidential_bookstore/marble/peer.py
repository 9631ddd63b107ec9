"""Who is calling: the attested identity of the peer of the current call.

The marble type comes from MarbleRun's extension in the peer's certificate, which only a coordinator writes; the
transport has verified the chain before anything here runs. What a host can choose is never looked at: alternative
names, headers, fields, addresses.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from confidential_bookstore.errors import ConfigurationError, PolicyDenied
from confidential_bookstore.marble.generations import issuer_key_id
from confidential_bookstore.pki.names import marble_type_of

ATTESTED_MARBLES_ONLY = "attested-marbles-only"
TLS13_ONLY = "tls-1.3-only"


@dataclass(frozen=True, slots=True)
class Peer:
    """A marble, as its certificate names it, the certificate's end in Unix seconds, and the key id of its issuer.

    `uuid` was chosen by its host: good for logs, not for decisions.
    """

    marble_type: str
    uuid: str
    not_after: float = math.inf
    issuer_key_id: bytes = b""


_current: ContextVar[Peer] = ContextVar("current_peer")


def current_peer() -> Peer:
    """The attested caller of the call that is being served.

    Raises:
        ConfigurationError: called outside a servicer method of a `MarbleServer`.
    """
    try:
        return _current.get()
    except LookupError:
        raise ConfigurationError("no call is being served here") from None


def current_peer_type() -> str:
    """The marble type of the current peer, for logs; "(unknown)" if there is none."""
    peer = _current.get(None)
    return peer.marble_type if peer else "(unknown)"


def set_current_peer(peer: Peer) -> None:
    """Sets the caller for the current task. The server's interceptor does this for every call; so do unit tests."""
    _current.set(peer)


def peer_of(context: Any) -> Peer:
    """Reads the peer of a servicer context, from this very call's connection.

    Raises:
        PolicyDenied: the connection is older than TLS 1.3, or its certificate belongs to no marble.
    """
    facts = context.auth_context()
    version = b"".join(facts.get("ssl_tls_version", ())).decode("ascii", "replace")
    if version != "TLSv1.3":
        raise PolicyDenied(f"the connection speaks {version or 'no TLS'}", rule=TLS13_ONLY)
    return _named_in(b"".join(facts.get("x509_pem_cert", ())))


@lru_cache(maxsize=256)  # a peer shows the same certificate in all its calls
def _named_in(certificate_pem: bytes) -> Peer:
    if not certificate_pem:
        raise PolicyDenied("the caller showed no certificate", rule=ATTESTED_MARBLES_ONLY)
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    marble_type = marble_type_of(certificate)
    if marble_type is None:
        raise PolicyDenied("the caller's certificate belongs to no marble", rule=ATTESTED_MARBLES_ONLY)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    uuid = str(names[0].value) if names else ""
    return Peer(marble_type, uuid, certificate.not_valid_after_utc.timestamp(), issuer_key_id(certificate))
