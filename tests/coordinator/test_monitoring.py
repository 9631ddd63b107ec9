from __future__ import annotations

import contextlib
import datetime as dt
import json
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
import pytest
from coordinators import BOOKSTORE, client_of, manifest, page, set_manifest
from exposition import read_back
from grpclib.const import Status

from confidential_bookstore.attestation.claims import Claims
from coordinator.deployment.state import CoordinatorState, Phase
from coordinator.monitoring.events import EventLog
from coordinator.monitoring.metrics import ActivationCounters, GrpcMetrics, HttpMetrics, code_name, exposition
from coordinator.monitoring.pages import Monitoring
from coordinator.transport.http_server import open_http_server
from coordinator.transport.listener import Limits

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=1)))
CLAIMS = Claims(
    root_key_id="00",
    tee="SGX",
    report_data=bytes(64),
    debug=False,
    tcb_status="UpToDate",
    advisories=(),
    tcb_evaluation_number=1,
    fmspc="00606a000000",
    expires=0,
    unique_id=BOOKSTORE.mr_enclave.hex(),
    signer_id=BOOKSTORE.mr_signer.hex(),
    product_id=3,
    security_version=2,
)


async def test_it_is_ready_when_it_accepts_marbles(start):
    async with start() as coordinator:
        assert (await page(coordinator.status_port, "/livez"))[0] == 200
        assert (await page(coordinator.status_port, "/readyz"))[0] == 503
        assert "coordinator_state 2\n" in (await page(coordinator.status_port, "/metrics"))[1]
        assert (await page(coordinator.status_port, "/events")) == (200, "null\n")
        await set_manifest(coordinator, manifest())
        assert (await page(coordinator.status_port, "/readyz"))[0] == 200
        assert "coordinator_state 3\n" in (await page(coordinator.status_port, "/metrics"))[1]


async def test_it_is_off_by_default_and_says_nothing_else(start):
    async with start({"status_address": None}) as coordinator, client_of(coordinator) as client:
        assert coordinator.status_port is None
        assert (await client.ask("GET", "/metrics"))[0] == 405
    async with start() as coordinator, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{coordinator.status_port}"
        assert (await page(coordinator.status_port, "/secrets"))[0] == 404
        async with http.post(f"{url}/metrics") as response:
            assert response.status == 405


def test_an_activation_in_marbleruns_shape_with_what_was_attested():
    events = EventLog(lambda: NOW)
    events.activated("bookstore", "uuid", b"\x00\xff", CLAIMS, NOW + dt.timedelta(days=1))
    assert events.entries() == [
        {
            "time": "2026-03-01T11:00:00.000005Z",
            "activation": {
                "marbleType": "bookstore",
                "uuid": "uuid",
                "quote": b"\x00\xff",
                "uniqueID": CLAIMS.unique_id,
                "signerID": CLAIMS.signer_id,
                "securityVersion": 2,
                "simulated": True,
                "certificateExpires": "2026-03-02T11:00:00.000005Z",
            },
        }
    ]


def test_refusals_never_push_activations_out_and_nothing_grows():
    events = EventLog(lambda: NOW)
    events.activated("bookstore", "first", b"", CLAIMS, NOW)
    for number in range(5000):
        events.denied("x" * 10_000, str(number), "y" * 10_000)
    entries = events.entries()
    assert entries[0]["activation"]["uuid"] == "first"
    assert [entry["denial"]["uuid"] for entry in entries[1:]] == [str(number) for number in range(5000 - 256, 5000)]
    for number in range(5000):
        events.activated("bookstore", str(number), b"", CLAIMS, NOW)
    assert len(json.dumps(events.entries(), default=bytes.hex)) < 1_000_000


def test_without_a_verified_quote_nothing_is_said_of_the_code():
    events = EventLog(lambda: NOW)
    events.activated("bookstore", "uuid", b"", None, NOW)
    activation = {"marbleType": "bookstore", "uuid": "uuid", "quote": None}
    expires = {"certificateExpires": "2026-03-01T11:00:00.000005Z"}
    assert events.entries() == [{"time": "2026-03-01T11:00:00.000005Z", "activation": activation | expires}]


@dataclass
class InPhase:
    """Of a live deployment, only its phase."""

    phase: Phase

    @property
    def current(self):
        return SimpleNamespace(state=CoordinatorState(self.phase))


def pages(phase: Phase = Phase.ACCEPTING_MARBLES, **rest) -> Monitoring:
    parts = {"events": EventLog(lambda: NOW), "counters": ActivationCounters()} | rest
    return Monitoring(live=InPhase(phase), **parts)


@contextlib.asynccontextmanager
async def served(monitoring: Monitoring):
    """The port."""
    limits = Limits(connections=8, request_bytes=64 << 10)
    server = await open_http_server(("127.0.0.1", 0), monitoring.answer, context=None, limits=limits, largest_body=1)
    try:
        yield server.port
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.UNINITIALIZED, "the coordinator has not started yet\n"),
        (Phase.RECOVERY, "the sealed state waits for recovery secrets\n"),
        (Phase.ACCEPTING_MANIFEST, "no manifest has been set\n"),
    ],
)
async def test_why_it_is_not_ready(phase, reason):
    async with served(pages(phase, interoperability=True)) as port:
        assert await page(port, "/readyz") == (503, reason)
        assert await page(port, "/livez") == (200, "ok\n")
        assert f"\ncoordinator_state {int(phase)}\n" in (await page(port, "/metrics"))[1]


async def test_ready_without_quotes_says_so():
    async with served(pages()) as port:
        assert await page(port, "/readyz") == (200, "ok\n")
    async with served(pages(interoperability=True)) as port:
        assert await page(port, "/readyz") == (
            200,
            "ok, in interoperability mode: marbles are admitted without a quote\n",
        )


async def test_every_metric_of_marblerun_is_there():
    http, grpc = HttpMetrics(), GrpcMetrics()
    http.know(["/status"])
    monitoring = pages(http=http, grpc=grpc, version="1.2.3", commit="abc")
    http.observe("GET", "/status", 200, seconds=0.01, request_bytes=300, response_bytes=20)
    grpc.started("Activate")
    grpc.received("Activate")
    grpc.sent("Activate")
    grpc.handled("Activate", Status.OK)
    async with served(monitoring) as port:
        text = (await page(port, "/metrics"))[1]
    lines = text.splitlines()
    labels = 'grpc_type="unary",grpc_service="rpc.Marble",grpc_method="Activate"'
    for line in (
        "coordinator_state 3",
        'coordinator_version_info{version="1.2.3",commit="abc"} 0',
        f"grpc_server_started_total{{{labels}}} 1",
        f"grpc_server_msg_received_total{{{labels}}} 1",
        f"grpc_server_msg_sent_total{{{labels}}} 1",
        f'grpc_server_handled_total{{{labels},grpc_code="OK"}} 1',
        'server_client_api_http_request_total{path="/status",code="200",method="get"} 1',
        'server_client_api_http_request_duration_histogram_seconds_bucket{path="/status",method="get",le="0.005"} 0',
        'server_client_api_http_request_duration_histogram_seconds_bucket{path="/status",method="get",le="0.025"} 1',
        'server_client_api_http_request_duration_histogram_seconds_bucket{path="/status",method="get",le="+Inf"} 1',
        'server_client_api_http_request_duration_histogram_seconds_sum{path="/status",method="get"} 0.01',
        'server_client_api_http_request_size_histogram_bytes_bucket{le="100"} 0',
        'server_client_api_http_request_size_histogram_bytes_bucket{le="1000"} 1',
        "server_client_api_http_response_size_histogram_bytes_count 1",
        "server_client_api_http_in_flight_requests 0",
        "# TYPE coordinator_marble_activations_total counter",
        "# TYPE coordinator_marble_activations_success_total counter",
    ):
        assert line in lines, line
    assert text.endswith("\n")
    read_back(text)


async def test_a_name_that_is_no_text_does_not_spoil_the_page():
    counters = ActivationCounters()
    counters.succeeded("\ud800", "uuid")
    async with served(pages(counters=counters)) as port:
        assert 'success_total{type="?",uuid="uuid"} 1' in (await page(port, "/metrics"))[1]


def test_unknown_types_are_one_label_and_names_are_escaped():
    counters = ActivationCounters()
    for number in range(1000):
        counters.attempted(f"type{number}", ["bookstore"])
    counters.attempted("bookstore", ["bookstore"])
    counters.attempted('a"b\\c\n', ['a"b\\c\n'])
    counters.succeeded("bookstore")
    assert exposition(counters.families) == (
        "# HELP coordinator_marble_activations_total Attempted activations.\n"
        "# TYPE coordinator_marble_activations_total counter\n"
        'coordinator_marble_activations_total{type="a\\"b\\\\c\\n"} 1\n'
        'coordinator_marble_activations_total{type="bookstore"} 1\n'
        'coordinator_marble_activations_total{type="unknown"} 1000\n'
        "# HELP coordinator_marble_activations_success_total Successful activations.\n"
        "# TYPE coordinator_marble_activations_success_total counter\n"
        'coordinator_marble_activations_success_total{type="bookstore"} 1\n'
    )


def test_uuids_are_labels_of_successes_up_to_a_bound():
    counters = ActivationCounters()
    for number in range(1500):
        counters.succeeded("bookstore", str(number))
    counters.succeeded("bookstore", "7")
    counters.succeeded("bookbuyer", "new")
    lines = exposition(counters.families).splitlines()
    success = "coordinator_marble_activations_success_total"
    assert f'{success}{{type="bookstore",uuid="7"}} 2' in lines
    assert f'{success}{{type="bookstore",uuid="other"}} 500' in lines
    assert f'{success}{{type="bookbuyer",uuid="other"}} 1' in lines
    assert len(lines) == 4 + 1000 + 2


def test_what_a_client_says_is_no_label_unless_it_is_known():
    http = HttpMetrics()
    http.know(["/status"])
    for number in range(300):
        http.observe(f"M{number}", f"/{number}", 405, seconds=0, request_bytes=0, response_bytes=0)
    http.observe("post", "/status", 405, seconds=0, request_bytes=0, response_bytes=0)
    lines = exposition(http.families).splitlines()
    assert [line for line in lines if line.startswith("server_client_api_http_request_total")] == [
        'server_client_api_http_request_total{path="/status",code="405",method="post"} 1',
        'server_client_api_http_request_total{path="other",code="405",method="unknown"} 300',
    ]
    grpc = GrpcMetrics()
    grpc.started("Steal")
    assert 'grpc_method="other"} 1' in exposition(grpc.families)


def test_requests_in_flight():
    http = HttpMetrics()
    name = "server_client_api_http_in_flight_requests"
    with http.in_flight(), contextlib.suppress(ZeroDivisionError), http.in_flight():
        assert f"\n{name} 2\n" in exposition(http.families)
        raise ZeroDivisionError
    assert f"\n{name} 0\n" in exposition(http.families)


def test_codes_have_gos_names():
    assert [code_name(status) for status in (Status.OK, Status.CANCELLED, Status.PERMISSION_DENIED)] == [
        "OK",
        "Canceled",
        "PermissionDenied",
    ]
    assert len({code_name(status) for status in Status}) == len(Status)
