"""Plain TLS clients from the standard library, for looking at a peer before gRPC talks to it.

These contexts verify nothing: their callers take the certificate of the handshake and judge it themselves, and send
nothing that matters before they have.
"""

from __future__ import annotations

import os
import ssl

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.secret import Secret


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as host and port.

    Raises:
        ConfigurationError: it has another form.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError("not an address", got=repr(address), expected="host:port")
    return host.strip("[]"), int(port)


def unverified_context(
    *, chain_pem: bytes | None = None, key_pem: Secret[bytes] | None = None, alpn: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """A client context that shows a certificate, if given, and verifies nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if chain_pem is not None and key_pem is not None:
        # `ssl` reads keys from files only; this one is in memory and has no name.
        with os.fdopen(os.memfd_create("client-certificate", os.MFD_CLOEXEC), "wb") as file:
            file.write(key_pem.reveal() + chain_pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    return context
