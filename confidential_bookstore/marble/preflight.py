"""Says why a TLS connection to a peer does not come about.

gRPC reports every failed handshake as UNAVAILABLE "Socket closed" and keeps the cause to itself (grpc#25189). So when
a call fails, dial the same address once with the standard library, look at the peer's certificate, wait for its
alert, and put a name to what is wrong. Nothing is sent but the handshake, and a good result here gives nobody any
trust: only gRPC's own verification does.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import PeerRefused
from confidential_bookstore.marble.generations import REVOKED, issuer_key_id
from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.marble.tls import split_address, unverified_context
from confidential_bookstore.pki.names import marble_dns_name, marble_type_of

_CONNECT_SECONDS = 3.0
_ALERT_SECONDS = 1.0  # how long a peer may take to refuse our certificate once the handshake is done on our side

# What OpenSSL says for an alert of the peer (RFC 8446, section 6): our word for it, and what it means.
_ALERTS = {
    "CERTIFICATE_REQUIRED": ("no-client-certificate", "the peer requires a client certificate"),
    "UNKNOWN_CA": ("unknown-ca", "the peer does not know the issuer of this marble's certificate"),
    "CERTIFICATE_UNKNOWN": ("certificate-refused", "the peer does not accept this marble's certificate"),
    "BAD_CERTIFICATE": ("certificate-refused", "the peer does not accept this marble's certificate"),
    "CERTIFICATE_EXPIRED": ("expired", "this marble's certificate has expired, says the peer"),
    "CERTIFICATE_REVOKED": ("revoked", "this marble's certificate has been revoked, says the peer"),
    "PROTOCOL_VERSION": ("tls-version", "the peer does not speak this version of TLS"),
    "NO_APPLICATION_PROTOCOL": ("not-grpc", "the peer does not speak HTTP/2"),
    "HANDSHAKE_FAILURE": ("handshake-failure", "the peer found no common cipher suite, or no certificate"),
    "ACCESS_DENIED": ("certificate-refused", "the peer does not accept this marble's certificate"),
}


async def diagnose(
    address: str,
    identity: Identity | None,
    expected_marble_type: str,
    *,
    trust: LiveIdentity | None = None,
    clock: Callable[[], float] = time.time,
) -> PeerRefused | None:
    """Tries one handshake and names what is wrong with it; None if nothing is.

    Args:
        address: `host:port`.
        identity: the certificate to show and the roots to judge by; None to show none and judge names only.
        expected_marble_type: what the peer should be attested as.
        trust: tells which generations still count; None: only that of `identity`.
        clock: Unix seconds.
    """
    try:
        await asyncio.to_thread(check_peer, address, identity, expected_marble_type, trust, clock)
    except PeerRefused as refused:
        return refused
    return None


def check_peer(
    address: str,
    identity: Identity | None,
    expected_marble_type: str,
    trust: LiveIdentity | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """The same, blocking, for up to some seconds.

    Raises:
        PeerRefused: with the cause.
    """
    context = unverified_context(
        chain_pem=identity.chain_pem if identity else None,
        key_pem=identity.private_key_pem if identity else None,
        alpn=("h2",),
    )
    with _connect(address) as connection, _handshake(context, connection, address) as tls:
        der = tls.getpeercert(binary_form=True)
        if der is None:
            raise PeerRefused(f"{address} showed no certificate", cause="no-server-certificate")
        try:
            leaf = x509.load_der_x509_certificate(der)
            if identity is not None:
                _judge_issuer(address, leaf, identity, trust)
            _judge(address, leaf, identity, expected_marble_type, clock())
        except MALFORMED as error:
            raise PeerRefused(
                f"{address} shows a malformed certificate", cause="malformed-certificate", got=str(error)
            ) from error
        if tls.version() != "TLSv1.3":
            raise PeerRefused(
                f"{address} speaks an old TLS", cause="tls-version", got=tls.version(), expected="TLSv1.3"
            )
        _await_alert(address, tls, identity, clock())


def _connect(address: str) -> socket.socket:
    host, port = split_address(address)
    try:
        return socket.create_connection((host, port), timeout=_CONNECT_SECONDS)
    except socket.gaierror as error:
        hint = "check the name, and that this machine can resolve it"
        raise PeerRefused(f"{host} has no address", cause="unreachable", got=error.strerror, hint=hint) from error
    except OSError as error:
        hint = "check that the peer runs and listens there"
        reason = error.strerror or "no answer in time"
        raise PeerRefused(f"cannot connect to {address}", cause="unreachable", got=reason, hint=hint) from error


def _handshake(context: ssl.SSLContext, connection: socket.socket, address: str) -> ssl.SSLSocket:
    try:
        return context.wrap_socket(connection, server_hostname=None)
    except (OSError, TimeoutError) as error:
        raise _translated(address, error) or PeerRefused(
            f"{address} does not answer with TLS",
            cause="not-tls",
            got=getattr(error, "reason", None) or type(error).__name__,
            hint="the peer may serve plaintext, or something else listens there",
        ) from error


def _await_alert(address: str, tls: ssl.SSLSocket, identity: Identity | None, now: float) -> None:
    """In TLS 1.3 a server judges the client's certificate after the client has finished: its first byte tells."""
    tls.settimeout(_ALERT_SECONDS)
    try:
        first = tls.recv(1)
    except TimeoutError:
        return  # silence is no refusal
    except OSError as error:
        if refused := _translated(address, error):
            raise refused from error
        first = b""
    if first:
        return
    if identity is None:
        raise PeerRefused(
            f"{address} ended the connection", cause="no-client-certificate", hint="show a marble's certificate"
        )
    if identity.expired(now):
        raise PeerRefused(
            f"{address} ended the connection", cause="expired", hint="this marble's certificate has expired"
        )
    raise PeerRefused(
        f"{address} ended the connection",
        cause="certificate-refused",
        hint="the peer does not accept this marble's certificate: is it of the same deployment?",
    )


def _judge_issuer(address: str, leaf: x509.Certificate, identity: Identity, trust: LiveIdentity | None) -> None:
    """Whether a trusted Marble Root has signed the peer's certificate, and whether it still counts."""
    roots = x509.load_pem_x509_certificates(trust.roots() if trust is not None else identity.marble_root_pem)
    if not any(_issued(leaf, root) for root in roots):
        raise PeerRefused(
            f"{address} shows a certificate of an unknown issuer",
            cause="unknown-ca",
            got=leaf.issuer.rfc4514_string(),
            hint="the peer belongs to another deployment, or has not been renewed since an update of the manifest",
        )
    if trust is not None and (reason := trust.refusal(issuer_key_id(leaf), marble_type_of(leaf) or "(no marble)")):
        raise PeerRefused(
            f"{address}: {reason}", cause=REVOKED, hint="the peer must be restarted as the manifest in force wants it"
        )


def _issued(leaf: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except (*MALFORMED, InvalidSignature):
        return False
    return True


def _judge(address: str, leaf: x509.Certificate, identity: Identity | None, expected_type: str, now: float) -> None:
    """What else gRPC would find wrong with the peer's certificate, most telling first."""
    if now >= leaf.not_valid_after_utc.timestamp():
        raise PeerRefused(f"{address} shows an expired certificate", cause="expired", got=leaf.not_valid_after_utc)
    if now < leaf.not_valid_before_utc.timestamp():
        not_before = leaf.not_valid_before_utc
        raise PeerRefused(f"{address} shows a certificate that is not valid yet", cause="not-yet-valid", got=not_before)
    if (marble_type := marble_type_of(leaf)) != expected_type:
        raise PeerRefused(
            f"{address} is another marble type",
            cause="wrong-marble-type",
            got=marble_type or "no marble",
            expected=expected_type,
        )
    if identity is not None:
        expected = marble_dns_name(expected_type, identity.trust_domain)
        if expected not in (names := _dns_names(leaf)):
            got = ", ".join(names)
            raise PeerRefused(
                f"{address} lacks its marble's name", cause="wrong-name", got=got or "no name", expected=expected
            )


def _dns_names(leaf: x509.Certificate) -> list[str]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)


def _translated(address: str, error: OSError) -> PeerRefused | None:
    """An alert of the peer in words; None if `error` is something else."""
    reason = getattr(error, "reason", None) or ""
    for alert, (cause, meaning) in _ALERTS.items():
        if reason.endswith(f"ALERT_{alert}"):
            return PeerRefused(f"{meaning} ({address})", cause=cause, got=f"alert {alert.lower()}")
    return None
