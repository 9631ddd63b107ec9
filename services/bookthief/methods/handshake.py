"""One TLS handshake with the victim: to take its certificate, and to hear why it hangs up.

gRPC tells neither. A thief does not verify whom it robs, so the certificate it is shown becomes its only trusted root.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from cryptography import x509

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.tls import split_address, unverified_context
from confidential_bookstore.secret import Secret
from services.bookthief.methods import Refused

_SECONDS = 3.0
_ALERT_SECONDS = 1.0  # with TLS 1.3 a server judges the client's certificate after the handshake


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the victim showed: its certificate (PEM), a name in it, and its last words if it hung up ("" if not)."""

    certificate_pem: bytes
    name: str
    last_words: str


def greet(address: str, chain_pem: bytes | None = None, key_pem: Secret[bytes] | None = None) -> Greeting:
    """Shake hands with or without a client certificate. Blocks for some seconds at most.

    Raises:
        Refused: the handshake did not get as far as the victim's certificate.
    """
    context = unverified_context(chain_pem=chain_pem, key_pem=key_pem, alpn=("h2",))
    try:
        with (
            socket.create_connection(split_address(address), timeout=_SECONDS) as connection,
            context.wrap_socket(connection) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
            shown = "client certificate not accepted" if chain_pem else "client certificate required"
            last_words = _listen(tls, otherwise=f"connection closed after the handshake: {shown}")
    except (OSError, ConfigurationError) as error:
        raise Refused(_words(error)) from error
    if der is None:
        raise Refused("no certificate was shown")
    certificate = x509.load_der_x509_certificate(der)
    return Greeting(ssl.DER_cert_to_PEM_cert(der).encode(), _name_in(certificate), last_words)


def _listen(tls: ssl.SSLSocket, *, otherwise: str) -> str:
    """The alert of the victim; `otherwise` if it hangs up without one, as gRPC's servers do; "" if it stays."""
    tls.settimeout(_ALERT_SECONDS)
    try:
        return "" if tls.recv(1) else otherwise
    except TimeoutError:
        return ""
    except OSError as error:
        return _words(error)


def _words(error: Exception) -> str:
    """`TLSV13_ALERT_CERTIFICATE_REQUIRED` becomes "TLS alert: certificate required"."""
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    _, is_alert, alert = reason.partition("_ALERT_")
    return f"TLS alert: {alert.replace('_', ' ').lower()}" if is_alert else reason


def _name_in(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(x509.DNSName)), "")
