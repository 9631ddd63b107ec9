"""`cbs demo` as a user runs it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.e2e
CBS = [sys.executable, "-m", "cli"]
STAGES = ("plain", "mesh", "confidential")
PRINCIPAL = "bookthief.bookthief.cluster.local"


def processes_of(network: str) -> list[int]:
    """Of each socket on an address of this network, the process id. gRPC writes addresses as `::ffff:127...`."""
    return [
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.laddr and f"{network}." in connection.laddr.ip and connection.pid
    ]


def until_nothing_is_left(network: str) -> None:
    deadline = time.monotonic() + 10
    while processes_of(network) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(network) == []


@pytest.mark.timeout(240)
def test_once_tells_all_three_stories(run_dir, network, envoy):
    started = time.monotonic()
    done = subprocess.run(
        [*CBS, "demo", "--once", "--output", "json", "--run-dir", str(run_dir), "--network", network],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(done.stdout)["outcomes"]
    assert [row for row in rows if not row["good"]] == []
    stages = {stage: {row["part"]: row for row in rows if row["stage"] == stage} for stage in STAGES}
    assert [len(parts) for parts in stages.values()] == [2, 5, 12]

    assert stages["plain"]["a thief who says that it is bookbuyer"]["expected"].startswith("steals")

    denied = stages["mesh"]["policy on: the thief"]["ended"]
    assert denied.startswith("PERMISSION_DENIED: RBAC: access denied")
    assert f"{PRINCIPAL}, rule deny-by-default" in denied
    round_it = stages["mesh"]["the host on the thief's side: straight to the store"]["ended"]
    assert round_it == "1 stolen: the host goes round the sidecar: nothing but the sidecar checks"

    confidential = stages["confidential"]
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in confidential["a thief with no certificate"]["ended"]
    assert "CERTIFICATE_VERIFY_FAILED" in confidential["a thief with a self-signed certificate"]["ended"]
    by_mesh = confidential["the mesh: bookthief's connections to the store"]["ended"]
    assert f"{PRINCIPAL}, rule deny-by-default" in by_mesh
    for part in (
        "a genuine, attested bookthief, whom the mesh's policy allows",
        "the same, straight to the store, round every sidecar",
    ):
        assert confidential[part]["ended"].startswith("attested; PERMISSION_DENIED: bookthief may not call "), part
        assert confidential[part]["ended"].endswith("(rule: deny-by-default)"), part

    assert "\x1b" not in done.stdout + done.stderr
    assert processes_of(network) == []
    assert seconds < 180  # on a busy machine; about 40 on a quiet one


@pytest.mark.parametrize("stage", ["plain", "confidential"])
def test_an_address_that_is_taken_is_named_before_anything_starts(run_dir, network, stage):
    with socket.create_server((f"{network}.12", 14001)):
        done = subprocess.run(
            [*CBS, "demo", "--once", "--stage", stage, "--run-dir", str(run_dir), "--network", network],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert f"{network}.12:14001: Address already in use" in done.stderr
    assert "--network" in done.stderr
    assert "starting" not in done.stdout


def test_it_stays_up_until_it_is_told_to_stop(run_dir, network):
    log = run_dir / "demo.log"
    with log.open("wb") as output:
        demo = subprocess.Popen(
            [*CBS, "demo", "--stage", "confidential", "--run-dir", str(run_dir), "--network", network],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 100
        while b"Ctrl-C stops it" not in log.read_bytes() and demo.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        assert demo.poll() is None, log.read_text()
        assert f"http://{network}.1:8080" in log.read_text()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
    finally:
        demo.kill()
        demo.wait()
    assert processes_of(network) == []


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_left_when_it_is_killed(run_dir, network, stage, envoy):
    up = subprocess.Popen(
        [*CBS, "up", "--stage", stage, "--run-dir", str(run_dir), "--network", network],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    many = {"plain": 10, "mesh": 20, "confidential": 30}[stage]  # listening sockets, sidecars' included
    try:
        deadline = time.monotonic() + 60
        while len(processes_of(network)) < many and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(processes_of(network)) >= many
    finally:
        up.kill()
        up.wait()
    until_nothing_is_left(network)
