"""TLS credentials for gRPC, made from an identity.

Both sides show a certificate and anchor in Marble Roots alone: the present one, and those before it that still count.
gRPC has no option for the version of TLS; two marbles always agree on 1.3, and the server's interceptor refuses calls
over anything older.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import grpc

from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.secret import Secret


def server_credentials(live: LiveIdentity) -> grpc.ServerCredentials:
    """Requires a client certificate of this deployment; new handshakes use a renewed identity and new roots at once.

    The type of a caller is not known before its handshake, so the roots are those that any type is trusted by.
    """
    offered = live.version
    first = _server_configuration(live)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal offered
        version = live.version
        if version == offered:
            return None
        offered = version
        return _server_configuration(live)

    # The type stubs know only one of the two answers that gRPC takes: None means that nothing has changed.
    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", renewed)
    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=True)


def _server_configuration(live: LiveIdentity) -> grpc.ServerCertificateConfiguration:
    identity = live.current
    return grpc.ssl_server_certificate_configuration(
        [(identity.private_key_pem.reveal(), identity.chain_pem)], root_certificates=live.roots()
    )


def channel_credentials(identity: Identity, roots_pem: bytes | None = None) -> grpc.ChannelCredentials:
    """Shows this marble's certificate and accepts only servers of the same deployment.

    `roots_pem` are the Marble Roots that servers may come from; None is the identity's own alone.
    """
    return pinned_credentials(
        identity.marble_root_pem if roots_pem is None else roots_pem,
        chain_pem=identity.chain_pem,
        key_pem=identity.private_key_pem,
    )


def pinned_credentials(root_pem: bytes, *, chain_pem: bytes, key_pem: Secret[bytes]) -> grpc.ChannelCredentials:
    """Shows the given certificate and accepts only servers whose chain ends in `root_pem`, one root or more."""
    return grpc.ssl_channel_credentials(
        root_certificates=root_pem, private_key=key_pem.reveal(), certificate_chain=chain_pem
    )
