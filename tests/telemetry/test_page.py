"""The status page over real HTTP: what it shows, what it never does."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.telemetry.page import StatusPage, render_html, render_metrics
from confidential_bookstore.telemetry.status import Status, Table

IDENTITY = {
    "marbleType": "bookstore",
    "uuid": "5e0b2f6e-0000-4000-8000-000000000001",
    "platform": "simulated",
    "simulated": True,
    "uniqueID": "ab" * 32,
    "signerID": "cd" * 32,
    "certificateExpires": "2026-11-24T10:00:00Z",
}


@pytest.fixture
def status() -> Status:
    return Status("bookstore", lambda: IDENTITY)


@pytest.fixture
def page(status):
    page = StatusPage(status, "127.0.0.1", 0)
    yield page
    page.close()


def ask(page: StatusPage, path: str, method: str = "GET") -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def test_json(page, status):
    status.counter("books_sold_total").add(3)
    status.refuse("bookthief", "/s/M", "deny-by-default")
    status.refuse("bookthief", "/s/M", "deny-by-default")
    code, body, headers = ask(page, "/status.json")
    assert (code, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(body) == IDENTITY | {
        "ready": False,
        "reason": "starting",
        "counters": {"books_sold_total": 3},
        "refusals": [{"peer": "bookthief", "method": "/s/M", "rule": "deny-by-default", "count": 2}],
    }


def test_readiness(page, status):
    assert ask(page, "/readyz")[:2] == (503, "starting\n")
    status.set_ready()
    assert ask(page, "/readyz")[:2] == (200, "ready\n")
    status.set_not_ready("stopping")
    assert ask(page, "/readyz?verbose")[:2] == (503, "stopping\n")
    assert ask(page, "/livez")[:2] == (200, "ok\n")


def test_metrics(page, status):
    status.counter("books_sold_total", "books that were sold").add(3)
    status.refuse('a"b\\c\nd', "/s/M", "r")
    code, body, headers = ask(page, "/metrics")
    assert (code, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "# HELP cbs_books_sold_total books that were sold\n# TYPE cbs_books_sold_total counter" in body
    assert "\ncbs_books_sold_total 3\n" in body
    assert '\ncbs_refused_calls_total{peer="a\\"b\\\\c\\nd",method="/s/M",rule="r"} 1\n' in body
    assert "\ncbs_ready 0\n" in body
    assert body == render_metrics(status)


def test_page_for_people_is_escaped_and_loads_nothing(page, status):
    status.refuse("<script>alert(1)</script>", "/s/M", "r")
    code, body, headers = ask(page, "/")
    assert code == 200
    assert body == render_html(status)
    assert "<script" not in body
    assert "&lt;script&gt;" in body
    assert "http://" not in body
    assert "https://" not in body
    assert "The CPU is simulated" in body
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Python" not in headers["Server"]


def test_a_real_cpu_has_no_warning():
    assert "simulated:" not in render_html(Status("s", lambda: {"simulated": False}))
    assert "The CPU is simulated" not in render_html(Status("s", lambda: {"simulated": False}))


def test_nothing_else_is_served(page):
    assert ask(page, "/../etc/passwd")[0] == 404
    assert ask(page, "/status")[0] == 404
    for method in ("POST", "PUT", "DELETE"):
        assert ask(page, "/", method)[0] == 501


def test_silent_connections_do_not_keep_others_out_for_long(page, monkeypatch):
    """Sixteen are held at a time; the next is closed at once, and a freed one is used again."""
    idle = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(16)]
    with socket.create_connection(("127.0.0.1", page.port), timeout=5) as one_more:
        assert one_more.recv(1) == b""
    for connection in idle:
        connection.close()
    for _ in range(100):
        try:
            assert ask(page, "/livez")[0] == 200
        except OSError:
            continue
        break
    else:
        pytest.fail("no connection was freed")


def test_port_that_is_taken(page, status):
    with pytest.raises(ConfigurationError, match="status address"):
        StatusPage(status, "127.0.0.1", page.port)


def test_refusals_are_bounded(status):
    for number in range(1000):
        status.refuse(f"peer-{number}", "/s/M", "r")
    rows = status.refusals()
    assert len(rows) == 257
    assert rows[0][0].peer == "(others)"
    assert sum(count for _, count in rows) == 1000


def test_counter_is_the_same_by_name(status):
    status.counter("a").add()
    status.counter("a").add(2)
    assert [(c.name, c.value) for c in status.counters()] == [("a", 3)]


def test_further_tables_are_shown_and_escaped():
    status = Status("bookthief")
    status.tables.append(Table("Thefts", ("method", "last refusal"), lambda: [("attested marble", "<b>no</b>")]))
    page = render_html(status)
    assert "<h2>Thefts</h2>" in page
    assert "<td>attested marble</td><td>&lt;b&gt;no&lt;/b&gt;</td>" in page
