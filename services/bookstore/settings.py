"""What the store is told by its environment. Its name as a seller comes from the manifest, never from the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confidential_bookstore.errors import ConfigurationError, InvalidRequest
from confidential_bookstore.serving import fields
from confidential_bookstore.serving.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """See README.md for the variables."""

    seller: str
    warehouse_address: str
    restock_copies: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> StoreSettings:
        """Read and check.

        Raises:
            ConfigurationError: a variable is missing or wrong.
        """
        environment = Environment(environ)
        try:
            seller = fields.checked_identity("CBS_SELLER", environment.text("CBS_SELLER"))
        except InvalidRequest as error:
            raise ConfigurationError(f"environment variable {error}") from error
        return cls(
            seller=seller,
            warehouse_address=environment.address("CBS_BOOKWAREHOUSE_ADDR", "localhost:14001"),
            restock_copies=environment.integer("CBS_RESTOCK_COPIES", 1_000, least=0, most=fields.MAX_RESTOCK),
        )
