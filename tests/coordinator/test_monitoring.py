from __future__ import annotations

import datetime as dt
import json

import aiohttp
from coordinators import BOOKSTORE, client_of, manifest, page, set_manifest

from confidential_bookstore.attestation.claims import Claims
from coordinator.monitoring.events import ActivationCounters, EventLog

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


def test_unknown_types_are_one_label_and_names_are_escaped():
    counters = ActivationCounters()
    for number in range(1000):
        counters.attempted(f"type{number}", ["bookstore"])
    counters.attempted("bookstore", ["bookstore"])
    counters.attempted('a"b\\c\n', ['a"b\\c\n'])
    counters.succeeded("bookstore")
    assert counters.exposition(3) == (
        "# HELP coordinator_state State of the coordinator, by MarbleRun's number.\n"
        "# TYPE coordinator_state gauge\n"
        "coordinator_state 3\n"
        "# HELP coordinator_marble_activations_total Attempted activations.\n"
        "# TYPE coordinator_marble_activations_total counter\n"
        'coordinator_marble_activations_total{type="a\\"b\\\\c\\n"} 1\n'
        'coordinator_marble_activations_total{type="bookstore"} 1\n'
        'coordinator_marble_activations_total{type="unknown"} 1000\n'
        "# HELP coordinator_marble_activations_success_total Activations.\n"
        "# TYPE coordinator_marble_activations_success_total counter\n"
        'coordinator_marble_activations_success_total{type="bookstore"} 1\n'
    )
