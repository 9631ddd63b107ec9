"""The coordinator's records, sealed: loaded once, stored at every change, never older than the platform's counter says.

With each write goes a number that grows by one, `stateVersion` among the records. The platform's monotonic counter is
raised to it as soon as the write is durable. So the host cannot put an older state back: its number is below the
counter. A number above the counter is in order; the power failed between the write and the count. The counter belongs
to this product on this machine and to one deployment: its id is the SHA-256 of the root certificate.

On platforms without counters nothing in an enclave can tell an old state from a new one.

Where several coordinators share a state, each keeps to the deployment that it has once unsealed or sealed. What it
cannot unseal any more, or what belongs to another deployment, it neither takes up nor writes over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from confidential_bookstore.errors import CounterUnavailable, RollbackDetected, SealedStateError, StateConflict
from coordinator.manifest.config import SealMode
from coordinator.recovery.data_key import DataKey
from coordinator.sealing.format import open_sealed_data, recovery_data_of, seal_records, unseal_records
from coordinator.sealing.keys import KeySealing
from coordinator.sealing.store import SealedPair, StateStore, version_of

STATE_VERSION: Final = "stateVersion"
ROOT_CERTIFICATE: Final = "certificate:coordinatorRootCert"

log = structlog.get_logger()

# (id, value) to what the counter was before; see `Platform.raise_counter`.
Counter = Callable[[bytes, int], int]


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The state.

    Attributes:
        records: without the number of the write.
        data_key: it is sealed with.
    """

    records: Mapping[str, bytes] = field(repr=False)
    data_key: DataKey


@dataclass(frozen=True, slots=True)
class Locked:
    """There is a state, but its key cannot be unsealed here: recovery is needed.

    Attributes:
        data: content of `sealed_data`.
        reason: what is wrong with the key.
    """

    data: bytes = field(repr=False)
    reason: str


class SealedState:
    """What one coordinator knows of the sealed state. Calls must not overlap.

    Args:
        store: where it is kept.
        keys: who can unseal it.
        counter: the platform's, against old states; None if there is no platform.
    """

    def __init__(self, store: StateStore, keys: KeySealing, counter: Counter | None) -> None:
        self._store = store
        self._keys = keys
        self._counter = counter
        self._version: str | None = None  # of the stored pair that we know
        self._attempted: str | None = None  # of a write that failed: it may have happened all the same
        self._number = 0  # of the last write that we know
        self._deployment: bytes | None = None  # that we have unsealed or sealed
        self._locked: Locked | None = None

    def load(self) -> Unsealed | Locked | None:
        """The state; None if none was ever sealed. Nothing is lost or changed when it fails.

        Raises:
            SealedStateError: the key fits but the data are damaged, or there is nothing that could be recovered; or
                other coordinators have begun another deployment, or keep the key of this one to themselves.
            RollbackDetected: it is older than one that was sealed before.
            StoreUnavailable: the store is away.
            PlatformError: the counter cannot be read.
        """
        pair = self._store.read()
        self._attempted = None
        if pair is None:
            if self._deployment is not None:
                log.warning("the sealed state is gone", hint="the next change of this coordinator writes it back")
                self._keys.take_up()  # the key went with it
            self._version, self._locked = None, None
            return None
        data_key = self._keys.unseal(pair.key, pair.data) if pair.key is not None else None
        if data_key is None:
            return self._lock(pair)
        records = unseal_records(pair.data, data_key)
        number = _number_in(records)
        counted = self._raise_counter(records, number)
        if number < counted and self._store.version() != pair.version:
            return self.load()  # another coordinator on this machine has written since we read
        self._refuse_rollback(records, number, counted)
        self._refuse_stranger(records)
        self._keys.take_up()
        self._version, self._locked, self._number = pair.version, None, number
        self._deployment = _counter_id(records)
        return Unsealed(_without_number(records), DataKey(data_key, recovery_data_of(pair.data)))

    def store(self, records: Mapping[str, bytes], data_key: DataKey, mode: SealMode) -> None:
        """Seals all records in place of what was there; durable on return. DISABLED writes nothing.

        Raises:
            StateConflict: another coordinator has written since our last load or store. Nothing was written.
            RollbackDetected: a copy of this state went on elsewhere on this machine, or an old state was recovered.
            SealedStateError: it cannot be written. What was stored before, or else these records, is kept.
            StoreUnavailable: likewise; the store is away.
            PlatformError: the key cannot be sealed, or the counter not be raised.
        """
        if mode is SealMode.DISABLED:
            return
        self._settle_attempt()
        replaced_unread = self._locked is not None and not self._recovers(self._locked.data, data_key)
        self._refuse_fork(records)
        number = self._number + 1
        numbered = {**records, STATE_VERSION: str(number).encode()}
        data = seal_records(numbered, data_key)
        key = self._keys.seal(data_key.key, data, mode)
        # A number is used once, also if the write fails: the host may have seen it.
        self._number, self._attempted = number, version_of(data)
        try:
            self._version = self._store.replace(data, key, expected=self._version, keep_old=replaced_unread)
        except StateConflict:
            self._attempted = None
            raise
        self._attempted, self._locked = None, None
        self._deployment = _counter_id(records)
        self._raise_counter(records, number)

    def changed(self) -> bool:
        """Whether a load may find something new: another coordinator has written, or the key may have come.

        Raises:
            SealedStateError: the store cannot be read.
            StoreUnavailable: it is away.
        """
        if self._locked is not None and self._keys.may_come_later:
            return True
        version = self._store.version()
        return version != self._version and (version is None or version != self._attempted)

    def _lock(self, pair: SealedPair) -> Locked:
        recovery_data_of(pair.data)  # or there is nothing to recover
        reason = "its key is missing" if pair.key is None else f"its key was sealed for {self._keys.sealed_for}"
        if self._deployment is not None:
            raise SealedStateError(f"another coordinator's change cannot be unsealed: {reason}")
        self._version, self._locked = pair.version, Locked(pair.data, reason)
        return self._locked

    def _settle_attempt(self) -> None:
        """Finds out whether a write that failed has happened all the same, as when the answer of a database is lost."""
        if self._attempted is not None and self._store.version() == self._attempted:
            self._version = self._attempted
        self._attempted = None

    def _recovers(self, locked: bytes, data_key: DataKey) -> bool:
        """Whether the locked state is the one that is stored again, as after a recovery."""
        recovered = open_sealed_data(locked, data_key.key.reveal())
        if recovered is None:
            return False
        number = _number_in(recovered)
        self._refuse_rollback(recovered, number, self._raise_counter(recovered, 0))
        self._number = max(self._number, number)
        return True

    def _refuse_fork(self, records: Mapping[str, bytes]) -> None:
        """Somebody else has counted on. If it was not on this store, it was on a copy."""
        counted = self._raise_counter(records, 0)
        if counted <= self._number:
            return
        if self.changed():
            raise StateConflict("the sealed state was changed by another coordinator")
        self._refuse_rollback(records, self._number, counted)

    def _refuse_stranger(self, records: Mapping[str, bytes]) -> None:
        if self._deployment is not None and _counter_id(records) != self._deployment:
            raise SealedStateError(
                "other coordinators have begun another deployment in the shared state",
                hint="restart this one to have it take part; put the state of this deployment back to go on with it",
            )

    def _refuse_rollback(self, records: Mapping[str, bytes], number: int, counted: int) -> None:
        if number < counted:
            log.error("sealed state is too old", deployment=_counter_id(records).hex(), found=number, counted=counted)
            raise RollbackDetected("the sealed state is too old", got=f"number {number}", expected=f"{counted} or more")

    def _raise_counter(self, records: Mapping[str, bytes], number: int) -> int:
        """What it was before; 0 without a counter."""
        if self._counter is None:
            return 0
        try:
            return self._counter(_counter_id(records), number)
        except CounterUnavailable as error:
            log.warning("nothing keeps the host from putting an old state back", reason=str(error))
            self._counter = None
            return 0


def _counter_id(records: Mapping[str, bytes]) -> bytes:
    if ROOT_CERTIFICATE not in records:
        raise SealedStateError("the sealed state has no root certificate")
    return hashlib.sha256(records[ROOT_CERTIFICATE]).digest()


def _number_in(records: Mapping[str, bytes]) -> int:
    """0 in a state that MarbleRun has sealed."""
    text = records.get(STATE_VERSION, b"0")
    if not text.isdigit() or len(text) > 19:  # what fits into a counter
        raise SealedStateError("the number of the sealed state is wrong", expected="decimal digits")
    return int(text)


def _without_number(records: Mapping[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in records.items() if key != STATE_VERSION}
