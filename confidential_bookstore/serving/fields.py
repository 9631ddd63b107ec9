"""The rules for request fields that more than one service checks.

Every function returns the field in its one canonical form or raises `InvalidRequest`. What is refused is shown in
ASCII and cut short, so that a hostile request cannot write into logs or terminals.
"""

from __future__ import annotations

import re

from confidential_bookstore.errors import InvalidRequest

MAX_QUANTITY = 1_000
MAX_RESTOCK = 1_000_000
MAX_SALES = 256
MAX_PAGE_SIZE = 500
DEFAULT_PAGE_SIZE = 100
MAX_BOOK_ID = 100

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BOOK_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_IDENTITY = re.compile(r"[A-Za-z0-9._-]{1,63}")


def checked_uuid(field: str, value: str) -> str:
    """A UUID in the usual form, in lower case: however it is spelled, it stands for the same purchase."""
    canonical = value.lower() if value.isascii() else value
    if not _UUID.fullmatch(canonical):
        raise InvalidRequest(f"{field} is not a UUID", got=shown(value), expected="8-4-4-4-12 hex digits")
    return canonical


def checked_book_id(value: str) -> str:
    """Lower-case letters, digits and single hyphens, at most 100."""
    if len(value) > MAX_BOOK_ID or not _BOOK_ID.fullmatch(value):
        raise InvalidRequest(
            "book_id is malformed", got=shown(value), expected="lower-case letters, digits and hyphens"
        )
    return value


def checked_identity(field: str, value: str) -> str:
    """A marble type or the name of a seller, at most 63 characters."""
    if not _IDENTITY.fullmatch(value):
        raise InvalidRequest(f"{field} is malformed", got=shown(value), expected="letters, digits, '.', '_' and '-'")
    return value


def checked_number(field: str, value: int, *, least: int, most: int) -> int:
    """A number from `least` to `most`."""
    if not least <= value <= most:
        raise InvalidRequest(f"{field} is out of range", got=value, expected=f"{least} to {most}")
    return value


def checked_quantity(value: int) -> int:
    """Copies in one sale."""
    return checked_number("quantity", value, least=1, most=MAX_QUANTITY)


def checked_page(page_size: int, page_token: str) -> tuple[int, str]:
    """Page size (0 stands for the default) and token. A token is the last book_id of the page before."""
    size = checked_number("page_size", page_size, least=0, most=MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE
    if page_token and (len(page_token) > MAX_BOOK_ID or not _BOOK_ID.fullmatch(page_token)):
        raise InvalidRequest(
            "page_token is malformed", got=shown(page_token), expected="the next_page_token of an earlier answer"
        )
    return size, page_token


def shown(value: str) -> str:
    """An untrusted text in quotes, escaped, and cut to about 60 characters."""
    escaped = ascii(value[:60])
    return escaped if len(value) <= 60 and len(escaped) <= 62 else f"{escaped[:60]}..."
