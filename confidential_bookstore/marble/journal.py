"""An append-only file of encrypted records that survives a crash at any moment.

What has been appended is on the disk when `append` returns. A record that a crash cut short is dropped at the next
open; any other difference from what was written is refused. What a single file cannot show: that its host has put
back an older copy, or dropped whole records from its end; nor, if it did so between two starts, which of the records
that were written under the same index is the later one.

Format (integers little-endian):

    file    = "CBSJRNL1" || id (16 random bytes) || record*
    record  = length (u32, of ciphertext) || mac (16) || nonce (12) || ciphertext (AES-256-GCM, 16-byte tag included)

`mac` is HMAC-SHA-256, cut to 16 bytes, of id || index (u64) || length: a changed length is damage, not a torn record.
The additional data of the ciphertext is id || index. Both keys come from the caller's by HKDF-SHA-256 with the id as
salt.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import secrets
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from confidential_bookstore.errors import SealedStateError, StoreUnavailable

MAGIC = b"CBSJRNL1"
MAXIMUM_RECORD_BYTES = 16 * 1024 * 1024
_HEADER = len(MAGIC) + 16
_FRAME = struct.Struct("<I16s12s")


class Journal:
    """One journal file, open for reading and appending by this object alone.

    Blocking; call it from a thread where that matters.

    Args:
        path: the file; it is made (0600) if it does not exist.
        key: 32 bytes.

    Raises:
        SealedStateError: the file is another's, was written with another key, is damaged, or is open elsewhere.
        StoreUnavailable: the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str], key: bytes) -> None:
        if len(key) != 32:
            raise SealedStateError("a journal key has another length", got=len(key), expected=32)
        self._path = Path(path)
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable("cannot open the journal", got=f"{self._path}: {error.strerror}") from error
        try:
            self._lock()
            self._id = self._read_or_write_header()
            okm = HKDF(SHA256(), length=64, salt=self._id, info=b"confidential bookstore journal").derive(key)
            self._mac_key, self._aead = okm[:32], AESGCM(okm[32:])
            self._count = 0
            self._end = _HEADER
            for _ in self:
                self._count += 1
            self._cut_torn_tail()
        except BaseException:
            os.close(self._fd)
            raise

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        """All records, oldest first.

        Raises:
            SealedStateError: a record is damaged.
        """
        position = _HEADER
        index = 0
        while (found := self._read(position, index)) is not None:
            record, position = found
            self._end = max(self._end, position)
            yield record
            index += 1

    def append(self, record: bytes) -> int:
        """Writes one record through to the disk and returns its index, from 0.

        Raises:
            StoreUnavailable: it could not be written; the journal is as before.
            SealedStateError: the record is too large.
        """
        if len(record) > MAXIMUM_RECORD_BYTES:
            raise SealedStateError("record too large", got=len(record), expected=f"at most {MAXIMUM_RECORD_BYTES}")
        index = self._count
        nonce = secrets.token_bytes(12)
        sealed = self._aead.encrypt(nonce, record, self._bound_to(index))
        length = len(sealed)
        try:
            _write_all(self._fd, _FRAME.pack(length, self._mac(index, length), nonce) + sealed, self._end)
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, self._end)
            raise StoreUnavailable("cannot write the journal", got=f"{self._path}: {error.strerror}") from error
        self._end += _FRAME.size + length
        self._count += 1
        return index

    def close(self) -> None:
        """Releases the file. Closing twice does no harm."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SealedStateError("the journal is open elsewhere", got=str(self._path)) from None

    def _read_or_write_header(self) -> bytes:
        header = os.pread(self._fd, _HEADER, 0)
        if len(header) == _HEADER and header.startswith(MAGIC):
            return header[len(MAGIC) :]
        if len(header) == _HEADER or not MAGIC.startswith(header[: len(MAGIC)]):
            raise SealedStateError("not a journal", got=str(self._path))
        # New, or a crash came before the header was complete: nothing has been acknowledged yet.
        identifier = secrets.token_bytes(16)
        _write_all(self._fd, MAGIC + identifier, 0)
        os.fsync(self._fd)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return identifier

    def _read(self, position: int, index: int) -> tuple[bytes, int] | None:
        """The record at `position` and where the next one begins; None at the end or at a torn record."""
        frame = os.pread(self._fd, _FRAME.size, position)
        if len(frame) < _FRAME.size:
            return None
        length, mac, nonce = _FRAME.unpack(frame)
        if not hmac.compare_digest(mac, self._mac(index, length)):
            raise self._damaged(index)
        sealed = os.pread(self._fd, length, position + _FRAME.size)
        if len(sealed) < length:
            return None
        try:
            return self._aead.decrypt(nonce, sealed, self._bound_to(index)), position + _FRAME.size + length
        except InvalidTag:
            raise self._damaged(index) from None

    def _cut_torn_tail(self) -> None:
        if os.fstat(self._fd).st_size > self._end:
            os.ftruncate(self._fd, self._end)
            os.fsync(self._fd)

    def _bound_to(self, index: int) -> bytes:
        return self._id + index.to_bytes(8, "little")

    def _mac(self, index: int, length: int) -> bytes:
        message = self._bound_to(index) + length.to_bytes(4, "little")
        return hmac.digest(self._mac_key, message, "sha256")[:16]

    def _damaged(self, index: int) -> SealedStateError:
        hint = "the file was changed, or was written with another key; restore it from a copy"
        return SealedStateError("journal record does not verify", got=f"{self._path}, record {index}", hint=hint)


def _write_all(fd: int, data: bytes, position: int) -> None:
    while data:
        written = os.pwrite(fd, data, position)
        data, position = data[written:], position + written
