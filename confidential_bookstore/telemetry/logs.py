"""Logging: one line per event on stderr, as JSON or as text.

An event has a constant name and fields. Secrets are redacted wherever they stand in a field; what is not wrapped in
`Secret` cannot be told from other text, so nothing secret is ever passed bare.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.secret import Secret

REDACTED = "***"


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
        else [structlog.dev.ConsoleRenderer(colors=out.isatty())]
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
            redact,
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def redact(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replaces every `Secret` in an event, also inside lists and dictionaries."""
    return {key: _redacted(value) for key, value in event.items()}


def _redacted(value: object) -> object:
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value
