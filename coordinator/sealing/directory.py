"""The sealed state in a directory: `sealed_data` and `sealed_key`, under MarbleRun's names.

A write replaces both or neither, whenever it is cut off. Two renames are not one, so the new pair is first written
whole to a journal, and that one is renamed: from this moment on the pair counts as written. Then the two files are made
from the journal, and it is removed. Whoever finds a journal does this first, however often: the result is the same.

    sealed_data, sealed_key             the pair
    sealed_data.old, sealed_key.old     one that could not be unsealed, and was replaced on purpose
    sealed_pair                         the journal
    node_key.<node>                     keys of machines, if several coordinators share the state
    lock                                taken for each access, if several share it
    *.tmp                               files that have not got their names yet

One coordinator holds the directory for itself; several that share one (`shared`) must all do so.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from confidential_bookstore.errors import SealedStateError, StateConflict
from coordinator.sealing.files import DiskFiles, FileSystem
from coordinator.sealing.store import SealedPair, version_of

DATA_FILE: Final = "sealed_data"
KEY_FILE: Final = "sealed_key"
JOURNAL: Final = "sealed_pair"
OLD: Final = ".old"
NEW: Final = ".tmp"
LOCK_FILE: Final = "lock"
NODE_KEY: Final = "node_key."

P = ParamSpec("P")
T = TypeVar("T")

_JOURNAL_HEAD = struct.Struct("<8sIi")  # format, length of the data, length of the key or -1 for no key
_JOURNAL_FORMAT = b"cbspair1"


class DirectoryStore:
    """`StateStore` in a directory that is held (see `open_directory`). Calls of one process must not overlap."""

    def __init__(self, directory: Path, *, shared: bool = False, files: FileSystem | None = None) -> None:
        self._directory = directory
        self._shared = shared
        self._files = files or DiskFiles()

    def read(self) -> SealedPair | None:
        """See `StateStore`.

        Raises:
            SealedStateError: the directory cannot be read, or there is a key without data.
        """
        return self._attempt("read", self._read)

    def version(self) -> str | None:
        """See `StateStore`."""
        pair = self.read()
        return pair.version if pair is not None else None

    def replace(self, data: bytes, key: bytes | None, *, expected: str | None, keep_old: bool = False) -> str:
        """See `StateStore`.

        Raises:
            StateConflict: there is another pair.
            SealedStateError: the directory cannot be written.
        """
        return self._attempt("written", self._replace, data, key, expected=expected, keep_old=keep_old)

    def read_node_key(self, node: str) -> bytes | None:
        """See `StateStore`."""
        return self._attempt("read", lambda: self._files.read(self._path(NODE_KEY + node)))

    def write_node_key(self, node: str, key: bytes) -> None:
        """See `StateStore`."""
        self._attempt("written", self._put, {NODE_KEY + node: key})

    def close(self) -> None:
        """Nothing to let go of: whoever holds the directory does."""

    def _read(self) -> SealedPair | None:
        self._finish()
        data, key = self._files.read(self._path(DATA_FILE)), self._files.read(self._path(KEY_FILE))
        if data is not None:
            return SealedPair(data, key, version_of(data))
        if key is not None:
            raise SealedStateError(
                f"there is {KEY_FILE}, but no {DATA_FILE}",
                got=self._directory,
                hint="restore it from a copy; to begin anew, use an empty directory",
            )
        return None

    def _replace(self, data: bytes, key: bytes | None, *, expected: str | None, keep_old: bool) -> str:
        present = self._read()
        if (present.version if present is not None else None) != expected:
            raise StateConflict("the sealed state was changed by another coordinator")
        if keep_old and present is not None:
            self._put({KEY_FILE + OLD: present.key, DATA_FILE + OLD: present.data})
        self._put({JOURNAL: _to_journal(data, key)})
        self._finish()
        return version_of(data)

    def _finish(self) -> None:
        """Makes the pair from the journal, if there is one."""
        journal = self._files.read(self._path(JOURNAL))
        if journal is None:
            return
        data, key = _from_journal(journal)
        self._put({KEY_FILE: key, DATA_FILE: data})
        self._files.remove(self._path(JOURNAL))

    def _put(self, contents: Mapping[str, bytes | None]) -> None:
        """Replaces these files (None: removes one), each in one step; durable on return."""
        files = {name: content for name, content in contents.items() if content is not None}
        for name, content in files.items():
            self._files.write(self._path(name + NEW), content)
        self._files.sync(self._directory)  # or a rename might find what an interrupted write has left there
        for name in contents:
            if name in files:
                self._files.rename(self._path(name + NEW), self._path(name))
            else:
                self._files.remove(self._path(name))
        self._files.sync(self._directory)

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _attempt(self, done: str, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs an operation, with the lock if the directory is shared."""
        try:
            with _flock(self._path(LOCK_FILE)) if self._shared else contextlib.nullcontext():
                return operation(*args, **kwargs)
        except OSError as error:
            raise SealedStateError(
                f"the sealed state cannot be {done}",
                got=error.strerror,
                hint=f"check space and permissions of {self._directory}",
            ) from error


@contextlib.contextmanager
def open_directory(directory: Path, *, shared: bool = False) -> Iterator[DirectoryStore]:
    """The store in a directory, which is made if need be and held until the block, or the process, ends.

    Two coordinators on one directory would each write over what the other has acknowledged, unless both share it.

    Raises:
        SealedStateError: another coordinator holds it, or it cannot be made or opened.
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
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SealedStateError(
                "the sealed state is in use", got=directory, hint="another coordinator runs on this directory"
            ) from None
        yield DirectoryStore(directory, shared=shared)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _flock(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _to_journal(data: bytes, key: bytes | None) -> bytes:
    return _JOURNAL_HEAD.pack(_JOURNAL_FORMAT, len(data), -1 if key is None else len(key)) + data + (key or b"")


def _from_journal(content: bytes) -> tuple[bytes, bytes | None]:
    if len(content) >= _JOURNAL_HEAD.size:
        _, data_length, key_length = _JOURNAL_HEAD.unpack_from(content)
        body = content[_JOURNAL_HEAD.size :]
        data, key = body[:data_length], body[data_length:] if key_length >= 0 else None
        if _to_journal(data, key) == content:
            return data, key
    # It got its name after it was durable, so no loss of power has done this.
    raise SealedStateError(
        f"{JOURNAL} is damaged", hint=f"remove it to go on with {DATA_FILE} and {KEY_FILE} as they are"
    )
