"""Logging: one line per event on stderr, as JSON or as text.

An event has a constant name and fields. A `Secret` shows as `Secret(***)`, wherever it stands in a field; what is not
wrapped cannot be told from other text, so nothing secret is ever passed bare.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from confidential_bookstore.errors import ConfigurationError


def configure_logging(service: str, fmt: str = "text", *, stream: TextIO | None = None, level: str = "info") -> None:
    """Sends every event of this process to `stream` (stderr if not given), with the service's name.

    Raises:
        ConfigurationError: `fmt` is neither "json" nor "text".
    """
    if fmt not in ("json", "text"):
        raise ConfigurationError("unknown log format", got=repr(fmt), expected="json or text")
    out = stream or sys.stderr
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if fmt == "json"
        # The formatter that structlog prefers where rich is installed prints local variables, and so secrets.
        else [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)]
    )

    def add_service(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_service,
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
