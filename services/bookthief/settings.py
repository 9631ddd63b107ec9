"""What the thief is told by its environment. It gets nothing from a manifest but a certificate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.marble import MarbleSettings
from confidential_bookstore.serving.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class ThiefSettings:
    """See README.md for the variables. `interval` is in seconds."""

    marble: MarbleSettings
    store_address: str
    diary_path: Path
    interval: float

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ThiefSettings:
        """Read and check.

        Raises:
            ConfigurationError: a variable is missing or wrong.
        """
        environment = Environment(environ)
        return cls(
            # The coordinator's addresses and its own, like a marble's; whether it is one is for a manifest to say.
            marble=MarbleSettings.from_environ({**environ, "EDG_MARBLE_TYPE": "bookthief"}),
            store_address=environment.address("CBS_BOOKSTORE_ADDR", "localhost:14001"),
            diary_path=environment.folder("CBS_DATA_DIR") / "thefts.jsonl",
            interval=environment.seconds("CBS_STEAL_INTERVAL", 1.0),
        )
