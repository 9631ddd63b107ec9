"""Log lines: their form, and that no secret gets into one."""

from __future__ import annotations

import io
import json

import pytest
import structlog

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.secret import Secret
from confidential_bookstore.telemetry.logs import configure_logging


@pytest.fixture(autouse=True)
def structlog_as_before():
    yield
    structlog.reset_defaults()


def logged(fmt: str, **fields) -> str:
    out = io.StringIO()
    configure_logging("bookstore", fmt, stream=out)
    structlog.get_logger().info("book.sold", **fields)
    return out.getvalue()


def test_json_lines():
    line = json.loads(logged("json", book_id="walden", quantity=2))
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "book.sold", "level": "info", "service": "bookstore", "book_id": "walden", "quantity": 2}


def test_text_lines():
    line = logged("text", book_id="walden")
    assert "book.sold" in line
    assert "book_id=walden" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_secrets_are_redacted_wherever_they_are(fmt):
    line = logged(fmt, key=Secret("hunter2"), nested={"keys": [Secret(b"hunter2")], "pair": (Secret("hunter2"), 1)})
    assert "hunter2" not in line
    assert "***" in line


def test_exceptions_have_their_traceback():
    out = io.StringIO()
    configure_logging("bookstore", "json", stream=out)
    structlog.get_logger().error("call.failed", exc_info=RuntimeError("broken"))
    line = json.loads(out.getvalue())
    assert "RuntimeError: broken" in line["exception"]


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_a_traceback_shows_no_variables(fmt):
    def fail(key: str) -> None:
        raise RuntimeError(f"broken after {len(key)} bytes")

    out = io.StringIO()
    configure_logging("bookstore", fmt, stream=out)
    try:
        fail(bytes.fromhex("68756e74657232").decode())
    except RuntimeError as error:
        structlog.get_logger().error("call.failed", exc_info=error)
    assert "RuntimeError: broken after 7 bytes" in out.getvalue()
    assert "hunter2" not in out.getvalue()


def test_debug_is_left_out_unless_asked_for():
    out = io.StringIO()
    configure_logging("bookstore", "json", stream=out)
    structlog.get_logger().debug("detail")
    assert out.getvalue() == ""
    configure_logging("bookstore", "json", stream=out, level="debug")
    structlog.get_logger().debug("detail")
    assert json.loads(out.getvalue())["event"] == "detail"


def test_unknown_format():
    with pytest.raises(ConfigurationError, match="json or text"):
        configure_logging("bookstore", "xml")
