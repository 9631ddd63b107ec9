"""The update log: one JSON line per change that a data owner has to know of, with MarbleRun's keys in its order.

Lines are kept as one text, a line each. What is in it is public: no secret ever is.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable

MANIFEST_SET = "Initial manifest set"
SECURITY_VERSION = "SecurityVersion increased"
SECRET_SET = "Secret set"  # noqa: S105  # the name of an event
UPDATE_WAITING = "Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update"
UPDATE_UNOPPOSED = "Complete Manifest update initiated by user. No further acknowledgements required"
UPDATE_ACKNOWLEDGED = "Complete Manifest update acknowledged by user"
UPDATE_APPLIED = "Complete Manifest updated"
UPDATE_CANCELLED = "Complete Manifest update cancelled by user"
UPDATE_FAILED = "Complete Manifest update cancelled due to error during apply"


def line(now: dt.datetime, update: str, **fields: object) -> str:
    """One entry. Underscores in the names of `fields` stand for blanks."""
    time = now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
    entry = {"time": time, "update": update, **{name.replace("_", " "): value for name, value in fields.items()}}
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False)


def to_record(lines: Iterable[str]) -> bytes:
    """What is sealed: the lines, each with its line end."""
    return "".join(f"{entry}\n" for entry in lines).encode()


def from_record(record: bytes) -> tuple[str, ...]:
    """The lines of what `to_record` wrote."""
    # Not `splitlines`: the names in a line may have U+2028 in them.
    return tuple(line for line in record.decode("utf-8", "replace").split("\n") if line)
