"""Who is calling: the attested identity of the peer of the current call.

The marble type comes from the peer's certificate, which the coordinator issued to an attested enclave; the transport
has verified the chain before anything here runs. A name the caller sends (a header, a field) is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509

from confidential_bookstore.errors import ConfigurationError, PeerRefused, PolicyDenied
from confidential_bookstore.pki.names import marble_type_from_uris, marble_type_of

ATTESTED_MARBLES_ONLY = "attested-marbles-only"

_SAN = "x509_subject_alternative_name"


class Peer:
    """A marble, as its certificate names it. `uuid` was chosen by its host: good for logs, not for decisions."""

    __slots__ = ("_uuid", "marble_type")

    def __init__(self, marble_type: str, uuid: str | Callable[[], str]) -> None:
        self.marble_type = marble_type
        self._uuid = uuid

    @property
    def uuid(self) -> str:
        """The certificate's common name; read from the connection only when it is asked for."""
        if not isinstance(self._uuid, str):
            self._uuid = self._uuid()
        return self._uuid

    def __repr__(self) -> str:
        return f"Peer({self.marble_type!r}, {self.uuid!r})"


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


@dataclass(frozen=True, slots=True)
class Connection:
    """Version of TLS (for example `TLSv1.3`) and end of the peer's certificate (Unix seconds)."""

    tls_version: str
    not_after: float


def connection_of(context: Any) -> Connection:
    """Reads the connection of a servicer context; this costs more than all other checks of a call together.

    Raises:
        PolicyDenied: the peer has shown no certificate.
    """
    facts = context.auth_context()
    pem = b"".join(facts.get("x509_pem_cert", ()))
    if not pem:
        raise PolicyDenied("the caller showed no certificate", rule=ATTESTED_MARBLES_ONLY)
    not_after = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    return Connection(b"".join(facts.get("ssl_tls_version", ())).decode("ascii", "replace"), not_after)


def peer_of(context: Any) -> Peer:
    """Reads the peer of a servicer context.

    The names of the certificate are cheap to read; the whole certificate is opened only if they hold no SPIFFE id, as
    in certificates of an original MarbleRun coordinator.

    Raises:
        PolicyDenied: the certificate belongs to no marble, or to several.
    """

    def common_name() -> str:
        names = context.auth_context().get("x509_common_name") or [b""]
        return str(names[0].decode("utf-8", "replace"))

    marble_type = None
    if context.peer_identity_key() == _SAN:
        marble_type = _type_from_names(tuple(context.peer_identities() or ()))
    if marble_type is None:
        marble_type = _type_from_certificate(b"".join(context.auth_context().get("x509_pem_cert", ())))
    return Peer(marble_type, common_name)


@lru_cache(maxsize=256)
def _type_from_names(names: tuple[bytes, ...]) -> str | None:
    try:
        return marble_type_from_uris(name.decode("utf-8", "replace") for name in names)
    except PeerRefused as error:
        raise PolicyDenied(str(error), rule=ATTESTED_MARBLES_ONLY) from error


@lru_cache(maxsize=256)
def _type_from_certificate(pem: bytes) -> str:
    marble_type = marble_type_of(x509.load_pem_x509_certificate(pem)) if pem else None
    if marble_type is None:
        raise PolicyDenied("the caller's certificate belongs to no marble", rule=ATTESTED_MARBLES_ONLY)
    return marble_type
