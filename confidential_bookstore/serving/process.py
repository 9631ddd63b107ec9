"""The edge of a service's process: what went wrong becomes one log line with a hint, and an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine

import structlog

from confidential_bookstore.errors import BookstoreError
from confidential_bookstore.telemetry.logs import configure_logging

_log = structlog.get_logger()


def run(service: str, serve: Callable[[], Coroutine[None, None, None]]) -> None:
    """Runs a service to its end.

    One of our own errors ends the process with its exit code; anything else is a fault and shows its traceback.
    """
    failure: BookstoreError | None = None
    try:
        asyncio.run(serve())
    except* BookstoreError as errors:
        failure = _first(errors)
    if failure is not None:
        if not structlog.is_configured():  # it went wrong before the settings were read
            configure_logging(service)
        _log.error("service.failed", error=type(failure).__name__, reason=str(failure), hint=failure.hint)
        sys.exit(failure.exit_code)


def _first(errors: BaseExceptionGroup[BookstoreError]) -> BookstoreError:
    """Groups can be nested, one in the other for each task group that was left."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BookstoreError)  # noqa: S101  # `except*` has selected nothing else
    return error
