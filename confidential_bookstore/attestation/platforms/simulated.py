"""The simulated CPU, seen from inside: a socket that the launcher handed to this process and to no other.

Packets (`SOCK_SEQPACKET`: one packet, one message):

    request   "Q", then 64 bytes of report data                 answer   the quote
    request   "K", then the seal policy's name in ASCII         answer   32 bytes of sealing key

No request carries an identity: the launcher knows what it measured. It closes the socket on anything else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from dataclasses import dataclass

from confidential_bookstore.attestation.platforms.interface import (
    REPORT_DATA_SIZE,
    SEALING_KEY_SIZE,
    SealPolicy,
    require_report_data,
)
from confidential_bookstore.errors import PlatformError, SealingUnavailable

# Holds the number of the inherited socket. The name is also in the image's bootstrap, which imports nothing of ours.
SOCKET_VARIABLE = "CBS_SIMULATED_CPU"
ANSWER_LIMIT = 1 << 16
TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """For a quote over these 64 bytes."""

    report_data: bytes


@dataclass(frozen=True, slots=True)
class SealingKeyRequest:
    """For the sealing key of this policy."""

    policy: SealPolicy


def encode_request(request: QuoteRequest | SealingKeyRequest) -> bytes:
    """One packet."""
    if isinstance(request, QuoteRequest):
        return b"Q" + request.report_data
    return b"K" + request.policy.value.encode("ascii")


def decode_request(packet: bytes) -> QuoteRequest | SealingKeyRequest | None:
    """None for anything that `encode_request` does not make."""
    kind, payload = packet[:1], packet[1:]
    if kind == b"Q" and len(payload) == REPORT_DATA_SIZE:
        return QuoteRequest(payload)
    if kind == b"K":
        for policy in SealPolicy:
            if payload == policy.value.encode("ascii"):
                return SealingKeyRequest(policy)
    return None


class SimulatedCpu:
    """`Platform` of an enclave that the simulated CPU's launcher started. Safe to use from several threads."""

    # There is one socket per process, however many objects use it: a question and its answer belong together.
    _lock = threading.Lock()

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._connection.settimeout(TIMEOUT)

    @classmethod
    def from_descriptor(cls, number: str) -> SimulatedCpu:
        """Take over a duplicate of the inherited socket; children of this process do not get it.

        Raises:
            PlatformError: `number` is not the descriptor of a socket.
        """
        try:
            descriptor = int(number)
            os.set_inheritable(descriptor, False)
            with socket.socket(fileno=descriptor) as inherited:
                connection = inherited.dup()
                inherited.detach()  # the next one who looks for the platform needs it
            return cls(connection)
        except (ValueError, OverflowError, OSError) as error:
            raise PlatformError(
                f"{SOCKET_VARIABLE} does not name an inherited socket", got=f"{number!r} ({error})"
            ) from error

    @property
    def name(self) -> str:
        """Always `simulated`."""
        return "simulated"

    def quote(self, report_data: bytes) -> bytes:
        """An SGX quote with the identity that the launcher measured.

        Raises:
            PlatformError: the launcher does not answer.
        """
        require_report_data(report_data)
        return self._ask(QuoteRequest(report_data))

    def sealing_key(self, policy: SealPolicy) -> bytes:
        """The sealing key of the identity that the launcher measured.

        Raises:
            PlatformError: the launcher does not answer.
            SealingUnavailable: its answer is not a key.
        """
        key = self._ask(SealingKeyRequest(policy))
        if len(key) != SEALING_KEY_SIZE:
            raise SealingUnavailable(
                "sealing key has the wrong size", got=f"{len(key)} bytes", expected=f"{SEALING_KEY_SIZE} bytes"
            )
        return key

    def close(self) -> None:
        """Give the socket up."""
        self._connection.close()

    def _ask(self, request: QuoteRequest | SealingKeyRequest) -> bytes:
        try:
            with self._lock:
                try:
                    self._connection.send(encode_request(request))
                    answer = self._connection.recv(ANSWER_LIMIT)
                except OSError:
                    # A late answer must not be taken for the answer to the next request.
                    with contextlib.suppress(OSError):
                        self._connection.shutdown(socket.SHUT_RDWR)
                    raise
        except OSError as error:
            raise PlatformError("the simulated CPU does not answer", got=str(error)) from error
        if not answer:
            raise PlatformError("the simulated CPU has closed the connection")
        return answer
