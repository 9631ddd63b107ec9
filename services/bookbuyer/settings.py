"""What the buyer is told by its environment. The journal's key comes from the manifest, never from the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.secret import Secret
from confidential_bookstore.serving.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyerSettings:
    """See README.md for the variables. `stores` has addresses by marble type; `interval` is in seconds."""

    stores: Mapping[str, str]
    journal_path: Path
    journal_key: Secret[bytes]
    interval: float
    concurrency: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> BuyerSettings:
        """Read and check.

        Raises:
            ConfigurationError: a variable is missing or wrong.
        """
        environment = Environment(environ)
        stores = {"bookstore": environment.address("CBS_BOOKSTORE_ADDR", "localhost:14001")}
        if environ.get("CBS_BOOKSTORE_V2_ADDR"):
            stores["bookstore-v2"] = environment.address("CBS_BOOKSTORE_V2_ADDR", "")
        return cls(
            stores=stores,
            journal_path=environment.folder("CBS_DATA_DIR") / "purchases.journal",
            journal_key=environment.key("CBS_JOURNAL_KEY"),
            interval=environment.seconds("CBS_BUY_INTERVAL", 1.0),
            concurrency=environment.integer("CBS_BUY_CONCURRENCY", 1, least=1, most=256),
        )
