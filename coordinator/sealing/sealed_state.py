"""The coordinator's state on disk, readable by this product on this machine and by nobody else.

Two files in MarbleRun's format:

* `sealed_data`: u32le length, recovery data (JSON, `null` without recovery keys), nonce (12), AES-256-GCM of a JSON
  object of store key to base64 value, under the data key;
* `sealed_key`: u32le length, key info (the sealing policy's name), nonce (12), AES-256-GCM of the data key under the
  platform's sealing key, with SHA-256 of `sealed_data` as additional data. So one key file fits one data file.

A write replaces both or neither, whenever it is cut off. New files are first written whole, under other names, and made
durable; then they are renamed. From the first rename on, the new data file is there under one of its names and so is
the new key file; before it, the old two are. Therefore the pair that fits is always found among the four names, and a
later write first puts it in its place.

Two coordinators on one directory would each write over what the other has acknowledged: `exclusively` keeps a second
one out.

What cannot be prevented here: the host can put an older pair back, or start a second coordinator on a copy.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from confidential_bookstore.attestation.platforms import Platform, SealPolicy
from confidential_bookstore.errors import SealedStateError
from confidential_bookstore.secret import Secret

DATA_FILE: Final = "sealed_data"
KEY_FILE: Final = "sealed_key"
NEW: Final = ".tmp"  # suffix of a file that has not got its name yet
NO_RECOVERY_DATA: Final = b"null"

_NONCE = 12
_TAG = 16
_LENGTH = struct.Struct("<I")
_KEY = 32


class FileSystem(Protocol):
    """The few operations whose order matters. Tests cut them off at every point."""

    def read(self, path: Path) -> bytes | None:
        """The whole file; None if there is none."""
        ...

    def write(self, path: Path, content: bytes) -> None:
        """A new file in place of any other, mode 0600, durable on return except for its name."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Replaces `new` in one step."""
        ...

    def remove(self, path: Path) -> None:
        """Removes the file if there is one."""
        ...

    def sync(self, directory: Path) -> None:
        """Makes the names in a directory durable."""
        ...


class SealedState:
    """Reads and replaces the sealed pair in one directory, held with `exclusively`; calls must not overlap."""

    def __init__(
        self,
        directory: Path,
        sealing_key: Secret[bytes],
        *,
        policy: SealPolicy = SealPolicy.PRODUCT_KEY,
        files: FileSystem | None = None,
    ) -> None:
        self._directory = directory
        self._sealing_key = sealing_key
        self._policy = policy
        self._files = files or DiskFiles()
        self._data_key: Secret[bytes] | None = None

    @classmethod
    def on(cls, platform: Platform, directory: Path, policy: SealPolicy = SealPolicy.PRODUCT_KEY) -> SealedState:
        """With the sealing key of the platform.

        Raises:
            PlatformError: the platform does not answer, or cannot seal.
        """
        return cls(directory, Secret(platform.sealing_key(policy)), policy=policy)

    def load(self) -> dict[str, bytes] | None:
        """All records; None if nothing was ever sealed here. Nothing is lost or changed when it fails.

        Raises:
            SealedStateError: files are there, but no two of them can be unsealed together.
        """
        try:
            return self._load()
        except OSError as error:
            raise SealedStateError(
                "the sealed state cannot be read",
                got=error.strerror,
                hint=f"check the permissions of {self._directory}",
            ) from error

    def _load(self) -> dict[str, bytes] | None:
        present = {
            name: content for name in _NAMES if (content := self._files.read(self._directory / name)) is not None
        }
        if not present:
            return None
        for data_name, key_name in _PAIRS:
            data, sealed_key = present.get(data_name), present.get(key_name)
            if data is None or sealed_key is None:
                continue
            data_key = unseal_key(sealed_key, data, self._sealing_key)
            if data_key is None:
                continue
            records = unseal_records(data, data_key)
            self._settle(data_name, key_name, present)
            self._data_key = data_key
            return records
        if set(present) <= {DATA_FILE + NEW, KEY_FILE + NEW}:
            return None  # the very first write was cut off, and was never acknowledged
        raise SealedStateError(
            "the sealed state cannot be unsealed",
            got=" and ".join(sorted(present)),
            expected=f"{DATA_FILE} and {KEY_FILE}, sealed by this product on this machine ({self._policy.value})",
            hint="start on the machine that sealed it, with the same signer and product id; nothing was changed in "
            f"{self._directory}",
        )

    def store(self, records: Mapping[str, bytes]) -> None:
        """Seals all records in place of what was there; durable on return.

        Raises:
            SealedStateError: the files cannot be written. What was stored before, or else these records, is kept.
        """
        try:
            self._settle_interrupted_write()
            data_key = self._data_key or Secret(AESGCM.generate_key(8 * _KEY))
            data = seal_records(records, data_key)
            new_key_file = seal_key(data_key, data, self._sealing_key, self._policy)
            self._replace(data, new_key_file)
        except OSError as error:
            raise SealedStateError(
                "the sealed state cannot be written",
                got=error.strerror,
                hint=f"check space and permissions of {self._directory}",
            ) from error
        self._data_key = data_key

    def _replace(self, data: bytes, sealed_key: bytes) -> None:
        files, directory = self._files, self._directory
        files.write(directory / (DATA_FILE + NEW), data)
        files.write(directory / (KEY_FILE + NEW), sealed_key)
        files.sync(directory)
        files.rename(directory / (KEY_FILE + NEW), directory / KEY_FILE)
        files.rename(directory / (DATA_FILE + NEW), directory / DATA_FILE)
        files.sync(directory)

    def _settle_interrupted_write(self) -> None:
        """A file that still has its first name may be half of the only pair that fits: never write over it."""
        if any(self._files.read(self._directory / name) is not None for name in (DATA_FILE + NEW, KEY_FILE + NEW)):
            self.load()

    def _settle(self, data_name: str, key_name: str, present: Mapping[str, bytes]) -> None:
        """Gives the pair that fits its names and removes what an interrupted write left besides it."""
        files, directory = self._files, self._directory
        if key_name != KEY_FILE:
            files.rename(directory / key_name, directory / KEY_FILE)
        if data_name != DATA_FILE:
            files.rename(directory / data_name, directory / DATA_FILE)
        leftovers = set(present) - {data_name, key_name, DATA_FILE, KEY_FILE}
        for name in sorted(leftovers):
            files.remove(directory / name)
        if leftovers or (data_name, key_name) != (DATA_FILE, KEY_FILE):
            files.sync(directory)


_NAMES = (DATA_FILE, KEY_FILE, DATA_FILE + NEW, KEY_FILE + NEW)
# Names in place come first: of two pairs that fit, the acknowledged one is taken.
_PAIRS = tuple(itertools.product((DATA_FILE, DATA_FILE + NEW), (KEY_FILE, KEY_FILE + NEW)))


@contextlib.contextmanager
def exclusively(directory: Path) -> Iterator[None]:
    """Holds the directory, which is made if need be, for this process alone. Ends with the process, however it ends.

    Raises:
        SealedStateError: another process holds it, or it cannot be made or opened.
    """
    try:
        DiskFiles().make_directory(directory)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SealedStateError(
            "the directory of the sealed state cannot be used", got=f"{directory}: {error.strerror}"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SealedStateError(
                "the sealed state is in use", got=directory, hint="another coordinator runs on this directory"
            ) from None
        yield
    finally:
        os.close(descriptor)


def seal_records(records: Mapping[str, bytes], data_key: Secret[bytes]) -> bytes:
    """The content of `sealed_data`."""
    plain = json.dumps({key: base64.b64encode(value).decode() for key, value in records.items()}).encode()
    return _prefixed(NO_RECOVERY_DATA) + _encrypt(data_key, plain, None)


def unseal_records(data: bytes, data_key: Secret[bytes]) -> dict[str, bytes]:
    """The records in `sealed_data`.

    Raises:
        SealedStateError: not this format, or not under this key.
    """
    box = _after_prefix(data)
    plain = _decrypt(data_key, box, None) if box is not None else None
    if plain is None:
        raise SealedStateError(f"{DATA_FILE} is damaged", hint="restore it from a copy; nothing was changed")
    try:
        return {key: base64.b64decode(value, validate=True) for key, value in json.loads(plain).items()}
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise SealedStateError(
            f"{DATA_FILE} was sealed by this product, but not in this format",
            expected="a JSON object of base64 values",
        ) from error


def seal_key(data_key: Secret[bytes], data: bytes, sealing_key: Secret[bytes], policy: SealPolicy) -> bytes:
    """The content of `sealed_key` for this content of `sealed_data`."""
    return _prefixed(policy.value.encode()) + _encrypt(sealing_key, data_key.reveal(), hashlib.sha256(data).digest())


def unseal_key(sealed_key: bytes, data: bytes, sealing_key: Secret[bytes]) -> Secret[bytes] | None:
    """The data key; None unless `sealed_key` was made for exactly this `data` under this sealing key."""
    box = _after_prefix(sealed_key)
    data_key = _decrypt(sealing_key, box, hashlib.sha256(data).digest()) if box is not None else None
    return Secret(data_key) if data_key is not None and len(data_key) == _KEY else None


def _prefixed(content: bytes) -> bytes:
    return _LENGTH.pack(len(content)) + content


def _after_prefix(content: bytes) -> bytes | None:
    """What follows the length-prefixed head; None if it is cut short."""
    if len(content) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack_from(content)
    rest = content[_LENGTH.size + length :]
    return rest if len(rest) >= _NONCE + _TAG else None


def _encrypt(key: Secret[bytes], plain: bytes, additional: bytes | None) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key.reveal()).encrypt(nonce, plain, additional)


def _decrypt(key: Secret[bytes], box: bytes, additional: bytes | None) -> bytes | None:
    try:
        return AESGCM(key.reveal()).decrypt(box[:_NONCE], box[_NONCE:], additional)
    except InvalidTag:
        return None


class DiskFiles:
    """The file system itself."""

    def read(self, path: Path) -> bytes | None:
        """See `FileSystem`."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, path: Path, content: bytes) -> None:
        """See `FileSystem`; makes the directory, mode 0700, if need be."""
        self.make_directory(path.parent)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """See `FileSystem`."""
        old.replace(new)

    def remove(self, path: Path) -> None:
        """See `FileSystem`."""
        path.unlink(missing_ok=True)

    def sync(self, directory: Path) -> None:
        """See `FileSystem`."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, directory: Path) -> None:
        """With its parents, mode 0700, durable; nothing happens if it is there."""
        if not directory.is_dir():
            self.make_directory(directory.parent)
            directory.mkdir(mode=0o700, exist_ok=True)
            self.sync(directory.parent)
