"""What the report data of a quote stands for.

MarbleRun's convention: a SHA-256 in bytes 0 to 31, zeros in bytes 32 to 63. All 64 bytes are compared.
"""

from __future__ import annotations

import hashlib


def marble_report_data(client_cert_der: bytes) -> bytes:
    """The 64 bytes in a marble's quote, made from the TLS client certificate (DER, as sent) it activates with."""
    return _padded(client_cert_der)


def coordinator_report_data(root_der: bytes, nonce: bytes = b"") -> bytes:
    """The 64 bytes in the coordinator's quote, made from its root certificate (DER) and the asker's nonce."""
    return _padded(root_der + nonce)


def _padded(data: bytes) -> bytes:
    return hashlib.sha256(data).digest() + bytes(32)
