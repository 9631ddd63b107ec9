"""Monotonic counters of the simulated machine: what Intel's management engine once offered, and a TPM still does.

A counter belongs to a product (MRSIGNER, product id and whether it is debugged) and has an id that the product
chooses. No enclave can lower one, or raise another product's. Whoever holds the machine's folder can do both, as he can
forge its CPU.

Counters of a machine that is kept in a folder are there in one file, `counters.json`: replaced in one step, durable
before anybody hears of it, and locked against other launchers of the same machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from confidential_bookstore.attestation.platforms.interface import LARGEST_COUNT, require_counter
from confidential_bookstore.attestation.simulation.identity import EnclaveIdentity
from confidential_bookstore.errors import PlatformError

COUNTERS_FILE = "counters.json"
LOCK_FILE = "counters.lock"


class MonotonicCounters:
    """In memory, until `keep_in` names a folder. Safe to use from several threads and, in a folder, processes."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._in_memory: dict[str, int] = {}
        self._lock = threading.Lock()

    def keep_in(self, directory: Path) -> None:
        """Keeps them in this folder from now on, together with what is there already.

        Raises:
            PlatformError: counts that were in memory only cannot be written.
        """
        with self._lock:
            self._directory = directory
            if self._in_memory:
                with self._counts() as counts:
                    for name, value in self._in_memory.items():
                        counts[name] = max(value, counts.get(name, 0))
                self._in_memory = {}

    def raise_to(self, owner: EnclaveIdentity, counter_id: bytes, value: int) -> int:
        """Raises the owner's counter to at least `value`; returns what it was before.

        Raises:
            PlatformError: the id or the value has the wrong size, or the count cannot be kept.
        """
        require_counter(counter_id, value)
        name = _name(owner, counter_id)
        with self._lock, self._counts() as counts:
            before = counts.get(name, 0)
            if value > before:
                counts[name] = value
        return before

    @contextlib.contextmanager
    def _counts(self) -> Iterator[dict[str, int]]:
        """All counts; what the block changes is kept."""
        if self._directory is None:
            yield self._in_memory
            return
        try:
            with _locked(self._directory / LOCK_FILE):
                before = _read(self._directory / COUNTERS_FILE)
                counts = dict(before)
                yield counts
                if counts != before:
                    _replace(self._directory / COUNTERS_FILE, counts)
        except OSError as error:
            raise PlatformError(
                "the simulated machine cannot keep its counters", got=f"{self._directory}: {error.strerror}"
            ) from error


def _name(owner: EnclaveIdentity, counter_id: bytes) -> str:
    product = owner.mr_signer + struct.pack("<H?", owner.product_id, owner.debug)
    return hashlib.sha256(b"simulated counter v1\0" + product + counter_id).hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> dict[str, int]:
    """A damaged file is an error: counters that began anew would not notice what they are there to notice."""
    try:
        counts = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        counts = None
    if not isinstance(counts, dict) or not all(type(n) is int and 0 <= n <= LARGEST_COUNT for n in counts.values()):
        raise PlatformError("the counters of the simulated machine are damaged", got=path)
    return counts


def _replace(path: Path, counts: Mapping[str, int]) -> None:
    descriptor, staged = tempfile.mkstemp(dir=path.parent, prefix=".counters-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(counts, indent=2, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(staged).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(staged).unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
