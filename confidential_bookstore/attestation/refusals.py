"""Why dcap-qvl refused, as an error of our own tree.

dcap-qvl 0.7.0 raises `ValueError` for everything and tells causes apart by text only. The table names each text that
has an error class of its own; whatever it does not know is `QuoteRefused` with the text itself.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import NamedTuple

from confidential_bookstore.errors import (
    AttestationError,
    CertificateRevoked,
    DebugEnclave,
    EvidenceExpired,
    QuoteRefused,
    TcbUnknown,
    UntrustedRoot,
)


class _Row(NamedTuple):
    text: str  # occurs in dcap-qvl's message
    error: type[AttestationError]
    message: str


REFUSALS = (
    _Row("CertRevoked", CertificateRevoked, "a certificate of the evidence is revoked"),
    _Row("CertExpired", EvidenceExpired, "a certificate of the evidence has expired"),
    _Row("CertNotValidYet", EvidenceExpired, "a certificate of the evidence is not valid yet"),
    _Row("CrlExpired", EvidenceExpired, "a certificate revocation list has expired"),
    _Row("TCBInfo expired", EvidenceExpired, "the TCB info has expired"),
    _Row("TCBInfo issue date is in the future", EvidenceExpired, "the TCB info is not valid yet"),
    _Row("QE Identity expired", EvidenceExpired, "the QE identity has expired"),
    _Row("QE Identity issue date is in the future", EvidenceExpired, "the QE identity is not valid yet"),
    _Row(
        "Failed to parse root CA CRL: InvalidCrlSignatureForPublicKey", UntrustedRoot, "collateral is of another root"
    ),
    _Row("UnknownIssuer", UntrustedRoot, "certificate chain does not lead to the pinned root"),
    _Row("InvalidSignatureForPublicKey", UntrustedRoot, "certificate chain does not lead to the pinned root"),
    _Row("No matching TCB level found", TcbUnknown, "no TCB level matches the platform"),
    _Row("Debug mode is enabled", DebugEnclave, "the enclave runs in debug mode"),
)

_LIMIT = re.compile(r"\b(not_before|not_after|next_update): UnixTime\((\d+)\)")


def refusal(text: str, *, now: int, root_key_id: str) -> AttestationError:
    """The error for a message of dcap-qvl; `now` (Unix seconds) and `root_key_id` are what it verified against."""
    reason = _one_line(text)
    row = next((row for row in REFUSALS if row.text in reason), None)
    if row is None:
        return QuoteRefused(f"quote does not verify: {reason}")
    if row.error is EvidenceExpired:
        limit = _LIMIT.search(reason)
        expected = f"{limit[1]} {date(int(limit[2]))}" if limit else None
        return row.error(row.message, got=date(now), expected=expected)
    return row.error(row.message, expected=root_key_id if row.error is UntrustedRoot else None)


def _one_line(text: str) -> str:
    """`headline: cause`, from a headline, "Caused by:" and an indented cause."""
    lines = (line.strip() for line in text.removeprefix("Verification failed: ").splitlines())
    return ": ".join(line.rstrip(":") for line in lines if line and line != "Caused by:")


def date(seconds: int) -> str:
    """Unix seconds as people read them, in UTC."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{seconds} seconds"
