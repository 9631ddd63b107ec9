"""`MARBLE_TTLS_CONFIG`: which connections of a marble its runtime wraps in TLS, and with what, as MarbleRun has it.

    {"tls": {"Incoming": {"*:PORT": {...}}, "Outgoing": {"ADDRESS:PORT": {...}}}}

Each entry has `cacrt` (Marble Root), `clicrt` and `clikey` (its own certificate, or that of a secret), in PEM,
and for incoming connections `clientAuth`. Of two tags that name the same place, the last one of the marble counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from confidential_bookstore.errors import StateError
from coordinator.manifest.tls import TlsTagSpec
from coordinator.pki.pem import pem_block
from coordinator.secret_value import SecretValue


def ttls_config(
    tags: Iterable[TlsTagSpec], *, marble_root: bytes, marble: SecretValue, secrets: Mapping[str, SecretValue]
) -> bytes:
    """The JSON text; empty if no tag says anything.

    Args:
        tags: of the marble, in its order.
        marble_root: DER.
        marble: its certificate and key.
        secrets: where the certificates that tags name come from.

    Raises:
        StateError: such a certificate has not been uploaded yet.
    """
    authority = pem_block("CERTIFICATE", marble_root).decode()

    def entry(identity: SecretValue) -> dict[str, object]:
        return {
            "cacrt": authority,
            "clicrt": pem_block("CERTIFICATE", identity.certificate or b"").decode(),
            "clikey": pem_block("PRIVATE KEY", identity.private.reveal()).decode(),
        }

    incoming: dict[str, dict[str, object]] = {}
    outgoing: dict[str, dict[str, object]] = {}
    for tag in tags:
        for connection in tag.outgoing:
            outgoing[f"{connection.address}:{connection.port}"] = entry(marble)
        for port in tag.incoming:
            identity = _uploaded(port.certificate, secrets) if port.certificate else marble
            incoming[f"*:{port.port}"] = {**entry(identity), "clientAuth": not port.disable_client_auth}
    if not incoming and not outgoing:
        return b""
    return json.dumps({"tls": {"Incoming": incoming, "Outgoing": outgoing}}, separators=(",", ":")).encode()


def _uploaded(name: str, secrets: Mapping[str, SecretValue]) -> SecretValue:
    secret = secrets[name]
    if not secret.certificate:
        raise StateError(f'secret "{name}" has no value yet', hint="upload it, then start the marble again")
    return secret
