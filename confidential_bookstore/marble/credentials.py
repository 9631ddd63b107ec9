"""TLS credentials for gRPC, made from an identity.

Only TLS 1.3 is spoken. gRPC has no option for it: its core always offers TLS 1.2, too, with the cipher suites named
in an environment variable. Naming one that needs a pre-shared key, which nobody has, leaves TLS 1.2 without a suite
to agree on, and does not touch TLS 1.3, whose suites are fixed (AES-GCM and ChaCha20-Poly1305). A test checks what is
negotiated.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

import grpc

from confidential_bookstore.marble.identity import Identity, LiveIdentity

_CIPHER_SUITES = "GRPC_SSL_CIPHER_SUITES"
_NEEDS_A_PRE_SHARED_KEY = "ECDHE-PSK-CHACHA20-POLY1305"


def require_tls13() -> None:
    """Keeps gRPC in this process from speaking TLS 1.2. Must run before its first TLS channel or server is made."""
    os.environ[_CIPHER_SUITES] = _NEEDS_A_PRE_SHARED_KEY


def server_credentials(live: LiveIdentity) -> grpc.ServerCredentials:
    """Requires a client certificate of this deployment; new handshakes use a renewed identity at once."""
    require_tls13()
    first, offered = live.state

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal offered
        identity, generation = live.state
        if generation == offered:
            return None
        offered = generation
        return _server_configuration(identity)

    # The type stubs know only one of the two answers that gRPC takes: None means that nothing has changed.
    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed)
    return grpc.dynamic_ssl_server_credentials(_server_configuration(first), fetch, require_client_authentication=True)


def _server_configuration(identity: Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.private_key_pem.reveal(), identity.chain_pem)], root_certificates=identity.marble_root_pem
    )


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """Shows this marble's certificate and accepts only servers of the same deployment."""
    require_tls13()
    return grpc.ssl_channel_credentials(
        root_certificates=identity.marble_root_pem,
        private_key=identity.private_key_pem.reveal(),
        certificate_chain=identity.chain_pem,
    )
