"""What a trusted execution environment looks like from the inside."""

from __future__ import annotations

import enum
from typing import Protocol

from confidential_bookstore.errors import PlatformError

REPORT_DATA_SIZE = 64
SEALING_KEY_SIZE = 32
COUNTER_ID_SIZE = 32
LARGEST_COUNT = (1 << 64) - 1


class SealPolicy(enum.Enum):
    """What a sealing key is bound to, with MarbleRun's `SealMode` names as values."""

    UNIQUE_KEY = "UniqueKey"  # MRENCLAVE: this very code
    PRODUCT_KEY = "ProductKey"  # MRSIGNER, product id: this product, any later version


class Platform(Protocol):
    """A trusted execution environment, seen from the inside."""

    @property
    def name(self) -> str:
        """`simulated`, `gramine` or `tdx`."""
        ...

    def quote(self, report_data: bytes) -> bytes:
        """A quote over exactly these 64 bytes. Blocks for up to a second.

        Raises:
            PlatformError: the platform does not answer.
        """
        ...

    def sealing_key(self, policy: SealPolicy) -> bytes:
        """The same 32 bytes for the same code (or product) on the same machine, and for nobody else.

        Raises:
            SealingUnavailable: the platform has no such key.
        """
        ...

    def raise_counter(self, counter_id: bytes, value: int) -> int:
        """Raises a counter to at least `value` (up to 2^64 - 1), durably, and returns what it was before.

        Counters (id: 32 bytes) belong to the product, on this machine. They begin at 0 and never go down.

        Raises:
            CounterUnavailable: the platform has no counters.
            PlatformError: it has, but the count cannot be kept now.
        """
        ...


def require_counter(counter_id: bytes, value: int) -> None:
    """What every platform with counters asks for.

    Raises:
        PlatformError: the id or the value has another size.
    """
    if len(counter_id) != COUNTER_ID_SIZE:
        raise PlatformError(
            "counter id has the wrong size", got=f"{len(counter_id)} bytes", expected=f"{COUNTER_ID_SIZE} bytes"
        )
    if not 0 <= value <= LARGEST_COUNT:
        raise PlatformError("a counter does not go there", got=value, expected="0 to 2^64 - 1")


def require_report_data(report_data: bytes) -> None:
    """Every platform signs exactly 64 bytes: shorter data would be padded by some and refused by others.

    Raises:
        PlatformError: the report data has another size.
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise PlatformError(
            "report data has the wrong size", got=f"{len(report_data)} bytes", expected=f"{REPORT_DATA_SIZE} bytes"
        )
