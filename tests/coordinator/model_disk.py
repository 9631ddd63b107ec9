"""A disk in memory that loses power: what has not been made durable may be there afterwards, or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class PowerLoss(Exception):
    """The machine stopped in the middle of an operation."""


class ModelDisk:
    """`FileSystem` of coordinator.sealing.files. Operation number `fail_at` (from 0) is cut off."""

    def __init__(self, durable: dict[str, bytes] | None = None, fail_at: int | None = None) -> None:
        self._durable = dict(durable or {})
        self._pending: list[tuple[str, ...] | tuple[str, str, bytes]] = []
        self.fail_at = fail_at
        self.operations = 0

    def read(self, path: Path) -> bytes | None:
        return self._now().get(path.name)

    def write(self, path: Path, content: bytes) -> None:
        self._step(("write", path.name, content[: len(content) // 2]))
        self._pending.append(("write", path.name, content))

    def rename(self, old: Path, new: Path) -> None:
        assert old.name in self._now()
        self._step()
        self._pending.append(("rename", old.name, new.name))

    def remove(self, path: Path) -> None:
        self._step()
        self._pending.append(("remove", path.name))

    def sync(self, directory: Path) -> None:
        self._step()
        self._durable, self._pending = self._now(), []

    def after_power_loss(self) -> Iterator[dict[str, bytes]]:
        """Every content the disk may have: any of the pending operations may have been lost."""
        for choice in range(1 << len(self._pending)):
            kept = [operation for index, operation in enumerate(self._pending) if choice >> index & 1]
            yield _applied(self._durable, kept)

    def _now(self) -> dict[str, bytes]:
        return _applied(self._durable, self._pending)

    def _step(self, torn: tuple[str, str, bytes] | None = None) -> None:
        if self.operations == self.fail_at:
            if torn is not None:
                self._pending.append(torn)
            raise PowerLoss
        self.operations += 1


def _applied(files: dict[str, bytes], operations: list[tuple]) -> dict[str, bytes]:
    files = dict(files)
    for operation in operations:
        match operation:
            case ("write", name, content):
                files[name] = content
            case ("rename", old, new) if old in files:
                files[new] = files.pop(old)
            case ("remove", name):
                files.pop(name, None)
    return files
