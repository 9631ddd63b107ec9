"""The titles the warehouse starts with: works in the public domain, from `catalogue.json` in this package.

Years before printing are the usual estimates. An ISBN is that of a present-day edition and mostly empty: one is given
only where it is known, never made up.
"""

from __future__ import annotations

import json
from importlib import resources

from services.bookwarehouse.store import Book


def load_catalogue() -> list[Book]:
    """All titles, ordered by book_id. Read through `importlib.resources`: the package may lie in a zip file."""
    text = resources.files("services.bookwarehouse").joinpath("catalogue.json").read_text(encoding="utf-8")
    return [Book(**fields) for fields in json.loads(text)]
