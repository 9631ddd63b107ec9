"""TLS credentials for gRPC, made from an identity.

Both sides show a certificate and anchor in the Marble Root alone. gRPC has no option for the version of TLS; two
marbles always agree on 1.3, and the server's interceptor refuses calls over anything older.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import grpc

from confidential_bookstore.marble.identity import Identity, LiveIdentity
from confidential_bookstore.secret import Secret


def server_credentials(live: LiveIdentity) -> grpc.ServerCredentials:
    """Requires a client certificate of this deployment; new handshakes use a renewed identity at once."""
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
    return pinned_credentials(identity.marble_root_pem, chain_pem=identity.chain_pem, key_pem=identity.private_key_pem)


def pinned_credentials(root_pem: bytes, *, chain_pem: bytes, key_pem: Secret[bytes]) -> grpc.ChannelCredentials:
    """Shows the given certificate and accepts only servers whose chain ends in `root_pem`."""
    return grpc.ssl_channel_credentials(
        root_certificates=root_pem, private_key=key_pem.reveal(), certificate_chain=chain_pem
    )
