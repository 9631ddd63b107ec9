"""DER to PEM, for values that are held as DER and may be private keys."""

from __future__ import annotations

import base64


def pem_block(label: str, der: bytes) -> bytes:
    """RFC 7468: lines of 64 characters, and a line end after the last one."""
    body = base64.b64encode(der)
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    ends = label.encode()
    return b"\n".join([b"-----BEGIN " + ends + b"-----", *lines, b"-----END " + ends + b"-----", b""])
