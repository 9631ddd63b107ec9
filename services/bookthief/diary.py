"""What the thief remembers: a plain file of JSON lines, because it has no key to encrypt with.

Every line adds to the counts of one method, so at the start the lines of earlier runs are folded into one per method.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from confidential_bookstore.api.bookthief.v1 import bookthief_pb2
from confidential_bookstore.errors import StoreUnavailable
from confidential_bookstore.serving.latest import Latest
from confidential_bookstore.telemetry.status import Status, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One attempt, or the sum of several. `at` is in Unix seconds, of the last one."""

    method: str
    at: float
    tried: int = 1
    refused: int = 0
    stolen: int = 0
    last_refusal: str = ""

    def __add__(self, later: Entry) -> Entry:
        return Entry(
            method=self.method,
            at=later.at,
            tried=self.tried + later.tried,
            refused=self.refused + later.refused,
            stolen=self.stolen + later.stolen,
            last_refusal=later.last_refusal or self.last_refusal,
        )


class Diary:
    """The counts, on disk and on the status page.

    Args:
        path: the file; it is made if it does not exist.
        status: shows the counters.

    Raises:
        StoreUnavailable: the file cannot be read or written.
    """

    def __init__(self, path: Path, status: Status) -> None:
        self._path = path
        self._stolen = status.counter("books_stolen", "copies got away with since the last reset")
        self._tried = status.counter("attempts", "thefts tried since the last reset")
        self._refused = status.counter("refused", "thefts refused since the last reset")
        self._sums: dict[str, Entry] = {}
        try:
            for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
                self._add(_entry_from(line))
            self._rewrite()
        except OSError as error:
            raise StoreUnavailable("the thief's diary cannot be used", got=f"{path}: {error.strerror}") from error
        self.latest: Latest[bookthief_pb2.Thefts] = Latest(self._show())
        status.tables.append(Table("Thefts", ("method", "tried", "refused", "stolen", "last refusal"), self._rows))

    def record(self, entry: Entry) -> None:
        """Write down one attempt.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))
        except OSError as error:
            raise StoreUnavailable("the thief's diary cannot be written", got=error.strerror) from error
        self._add(entry)
        self.latest.set(self._show())

    def reset(self) -> None:
        """Start anew.

        Raises:
            StoreUnavailable: it cannot be written.
        """
        self._sums.clear()
        try:
            self._rewrite()
        except OSError as error:
            raise StoreUnavailable("the thief's diary cannot be written", got=error.strerror) from error
        self.latest.set(self._show())

    def _add(self, entry: Entry | None) -> None:
        if entry is not None:
            earlier = self._sums.get(entry.method)
            self._sums[entry.method] = earlier + entry if earlier else entry

    def _rewrite(self) -> None:
        temporary = self._path.with_suffix(".new")
        temporary.write_text("".join(map(_line, self._sums.values())), encoding="utf-8")
        temporary.replace(self._path)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (each.method, f"{each.tried:,}", f"{each.refused:,}", f"{each.stolen:,}", each.last_refusal)
            for each in list(self._sums.values())
        ]

    def _show(self) -> bookthief_pb2.Thefts:
        self._stolen.value = sum(entry.stolen for entry in self._sums.values())
        self._tried.value = sum(entry.tried for entry in self._sums.values())
        self._refused.value = sum(entry.refused for entry in self._sums.values())
        thefts = bookthief_pb2.Thefts(books_stolen=self._stolen.value)
        for entry in self._sums.values():
            attempts = thefts.attempts.add(
                method=entry.method, tried=entry.tried, refused=entry.refused, last_refusal=entry.last_refusal
            )
            attempts.last_tried_at.FromMilliseconds(int(entry.at * 1000))
        return thefts


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"


def _entry_from(line: str) -> Entry | None:
    """None for a line that a kill has cut short: a thief's memory need not be perfect."""
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError):
        return None
