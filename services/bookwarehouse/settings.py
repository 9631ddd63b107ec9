"""What the warehouse is told by its environment. The key comes from the manifest, never from the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from confidential_bookstore.secret import Secret
from confidential_bookstore.serving.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class WarehouseSettings:
    """See README.md for the variables."""

    store_path: Path
    store_key: Secret[bytes]
    initial_stock: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> WarehouseSettings:
        """Read and check.

        Raises:
            ConfigurationError: a variable is missing or wrong.
        """
        environment = Environment(environ)
        return cls(
            store_path=environment.folder("CBS_DATA_DIR") / "books.db",
            store_key=environment.key("CBS_STORE_KEY"),
            initial_stock=environment.integer("CBS_INITIAL_STOCK", 1_000, least=0, most=1_000_000_000),
        )
