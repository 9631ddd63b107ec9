"""The simulated CPU, seen from inside: a socket that the launcher handed to this process and to no other.

Packets (`SOCK_SEQPACKET`: one packet, one message):

    request   "Q", then 64 bytes of report data                 answer   the quote
    request   "K", then the seal policy's name in ASCII         answer   32 bytes of sealing key
    request   "C", then 32 bytes of id, u64le                   answer   u64le, what the counter was before; or one
                                                                         byte 0: the count cannot be kept now

No request carries an identity: the launcher knows what it measured. It closes the socket on anything else.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from dataclasses import dataclass

from confidential_bookstore.attestation.platforms.interface import (
    COUNTER_ID_SIZE,
    REPORT_DATA_SIZE,
    SEALING_KEY_SIZE,
    SealPolicy,
    require_counter,
    require_report_data,
)
from confidential_bookstore.errors import PlatformError, SealingUnavailable

# Holds the number of the inherited socket. The name is also in the image's bootstrap, which imports nothing of ours.
SOCKET_VARIABLE = "CBS_SIMULATED_CPU"
ANSWER_LIMIT = 1 << 16
TIMEOUT = 10.0  # seconds
COUNT = struct.Struct("<Q")
NOT_COUNTED = b"\0"


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """For a quote over these 64 bytes."""

    report_data: bytes


@dataclass(frozen=True, slots=True)
class SealingKeyRequest:
    """For the sealing key of this policy."""

    policy: SealPolicy


@dataclass(frozen=True, slots=True)
class CounterRequest:
    """To raise the counter with this id to at least this value."""

    counter_id: bytes
    value: int


Request = QuoteRequest | SealingKeyRequest | CounterRequest


def encode_request(request: Request) -> bytes:
    """One packet."""
    match request:
        case QuoteRequest(report_data):
            return b"Q" + report_data
        case SealingKeyRequest(policy):
            return b"K" + policy.value.encode("ascii")
        case CounterRequest(counter_id, value):
            return b"C" + counter_id + COUNT.pack(value)


def decode_request(packet: bytes) -> Request | None:
    """None for anything that `encode_request` does not make."""
    kind, payload = packet[:1], packet[1:]
    if kind == b"Q" and len(payload) == REPORT_DATA_SIZE:
        return QuoteRequest(payload)
    if kind == b"C" and len(payload) == COUNTER_ID_SIZE + COUNT.size:
        return CounterRequest(payload[:COUNTER_ID_SIZE], *COUNT.unpack(payload[COUNTER_ID_SIZE:]))
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

    def raise_counter(self, counter_id: bytes, value: int) -> int:
        """The counter of the product that the launcher measured.

        Raises:
            PlatformError: the launcher does not answer, or the machine cannot keep the count.
        """
        require_counter(counter_id, value)
        answer = self._ask(CounterRequest(counter_id, value))
        if len(answer) != COUNT.size:
            raise PlatformError("the simulated machine cannot keep its counters", hint="see the launcher's log")
        before: int = COUNT.unpack(answer)[0]
        return before

    def close(self) -> None:
        """Give the socket up."""
        self._connection.close()

    def _ask(self, request: Request) -> bytes:
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
