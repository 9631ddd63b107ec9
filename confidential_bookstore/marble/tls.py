"""Plain TLS clients from the standard library, for looking at a peer before gRPC talks to it.

These contexts verify nothing: their callers take the certificate of the handshake and judge it themselves, and send
nothing that matters before they have.
"""

from __future__ import annotations

import os
import re
import ssl

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.secret import Secret

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as host and port; never one of gRPC's schemes, such as `unix:`.

    Raises:
        ConfigurationError: it has another form.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65_535:
        raise ConfigurationError("not an address", got=repr(address), expected="host:port")
    return match["host"].strip("[]"), int(match["port"])


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
