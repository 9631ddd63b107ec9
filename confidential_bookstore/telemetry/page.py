"""The status page of a service: plain HTTP for people, probes and Prometheus, on a port that leaves no secret.

GET only, in a thread of its own, with a bound on connections and time. It has no TLS because kubelet's probes cannot
show a client certificate; it says nothing that is not public, and takes no input but the path.

    /             for people, refreshed every five seconds
    /status.json  the same as JSON
    /metrics      Prometheus text
    /livez        200 while the process answers
    /readyz       200 when calls are served, else 503 with the reason
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.telemetry.status import Status, Table

_REQUEST_SECONDS = 5.0
_MOST_CONNECTIONS = 16
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #d7dce1;overflow-wrap:anywhere;
vertical-align:top}th{white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.note{padding:.6rem 1rem;border-left:4px solid #b35900;background:#fff4e5}.big{font-size:2rem;font-weight:600}
@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#15181c}th,td{border-color:#343a41}
.note{background:#3a2a12}}
"""


class StatusPage:
    """Serves one `Status` until it is closed."""

    def __init__(self, status: Status, host: str, port: int) -> None:
        """Listens at once; port 0 takes a free one.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        try:
            self._server = _Server((host, port), _handler_for(status))
        except OSError as error:
            raise ConfigurationError(
                "cannot listen on the status address", got=f"{host}:{port}", hint=str(error.strerror)
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="status-page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._free = threading.BoundedSemaphore(_MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that goes away is no event."""


def _handler_for(status: Status) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS
        server_version = "status"
        sys_version = ""
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            page = _PAGES.get(self.path.partition("?")[0])
            code, kind, body = page(status) if page else (404, "text/plain", "not found\n")
            data = body.encode()
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(data)))
            for name, value in _SECURITY_HEADERS.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the signature of the base class
            """Probes every few seconds are no news."""

    return Handler


def _html(status: Status) -> tuple[int, str, str]:
    return 200, "text/html", render_html(status)


def _json(status: Status) -> tuple[int, str, str]:
    return 200, "application/json", json.dumps(status.as_json()) + "\n"


def _metrics(status: Status) -> tuple[int, str, str]:
    return 200, "text/plain; version=0.0.4", render_metrics(status)


def _livez(_status: Status) -> tuple[int, str, str]:
    return 200, "text/plain", "ok\n"


def _readyz(status: Status) -> tuple[int, str, str]:
    return (200 if status.ready else 503), "text/plain", status.reason + "\n"


_PAGES: Final[dict[str, Callable[[Status], tuple[int, str, str]]]] = {
    "/": _html,
    "/status.json": _json,
    "/metrics": _metrics,
    "/livez": _livez,
    "/readyz": _readyz,
}


def render_metrics(status: Status) -> str:
    """Counters and refusals as Prometheus text, names prefixed with `cbs_`."""
    lines = []
    for counter in status.counters():
        if counter.help:
            lines.append(f"# HELP cbs_{counter.name} {counter.help}")
        lines += [f"# TYPE cbs_{counter.name} {counter.kind}", f"cbs_{counter.name} {counter.value}"]
    lines += ["# HELP cbs_ready 1 when calls are served", "# TYPE cbs_ready gauge", f"cbs_ready {int(status.ready)}"]
    if refusals := status.refusals():
        lines += ["# HELP cbs_refused_calls_total calls refused, by rule", "# TYPE cbs_refused_calls_total counter"]
    for refusal, count in refusals:
        labels = ",".join(
            f'{name}="{_label(value)}"'
            for name, value in (("peer", refusal.peer), ("method", refusal.method), ("rule", refusal.rule))
        )
        lines.append(f"cbs_refused_calls_total{{{labels}}} {count}")
    return "\n".join(lines) + "\n"


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def render_html(status: Status) -> str:
    """The page for people. Everything that is shown is escaped; nothing is loaded from elsewhere."""
    identity = status.identity()
    simulated = (
        '<p class="note">The CPU is simulated: whoever holds its keys can forge this identity.</p>'
        if identity.get("simulated")
        else ""
    )
    facts = _table(("", ""), [(escape(str(key)), escape(str(value))) for key, value in identity.items()])
    counters = _table(
        ("counter", "value"),
        [(escape(counter.name.replace("_", " ")), f"{counter.value:,}") for counter in status.counters()],
    )
    tables = "".join(
        f"<h2>{escape(table.title)}</h2>" + _table(table.columns, [tuple(map(escape, row)) for row in table.rows()])
        for table in (*status.tables, _refusals(status))
    )
    service = escape(status.service)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{service}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{service}: {escape(status.reason)}</h1>{simulated}"
        f"<h2>Counters</h2>{counters}{tables}<h2>Identity</h2>{facts}"
        "</body></html>\n"
    )


def _refusals(status: Status) -> Table:
    """Whom this service has refused."""
    return Table(
        "Refused here",
        ("peer", "method", "rule", "count"),
        lambda: [(r.peer, r.method, r.rule, f"{count:,}") for r, count in status.refusals()],
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return "<p>none</p>"
    titles = "".join(f"<th>{title}</th>" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
