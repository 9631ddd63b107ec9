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


def enclaves_of(network: str) -> list[psutil.Process]:
    """Processes that listen on an address of this network."""
    return [
        psutil.Process(connection.pid)
        for connection in psutil.net_connections("tcp")
        if connection.laddr and connection.laddr.ip.startswith(f"{network}.") and connection.pid
    ]


def test_once_tells_the_whole_story(run_dir, network):
    done = subprocess.run(
        [*CBS, "demo", "--once", "--output", "json", "--run-dir", str(run_dir), "--network", network],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = {row["part"]: row for row in json.loads(done.stdout)["outcomes"]}
    assert len(outcomes) == 8
    assert all(row["good"] for row in outcomes.values())
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in outcomes["a thief with no certificate"]["ended"]
    assert "CERTIFICATE_VERIFY_FAILED" in outcomes["a thief with a self-signed certificate"]["ended"]
    assert "\x1b" not in done.stdout + done.stderr
    assert enclaves_of(network) == []


def test_an_address_that_is_taken_is_named_before_anything_starts(run_dir, network):
    with socket.create_server((f"{network}.12", 14001)):
        done = subprocess.run(
            [*CBS, "demo", "--once", "--run-dir", str(run_dir), "--network", network],
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
            [*CBS, "demo", "--run-dir", str(run_dir), "--network", network], stdout=output, stderr=output
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
    assert enclaves_of(network) == []


def test_nothing_is_left_when_the_demo_itself_is_killed(run_dir, network):
    demo = subprocess.Popen(
        [*CBS, "demo", "--run-dir", str(run_dir), "--network", network],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while len(enclaves_of(network)) < 4 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert len(enclaves_of(network)) >= 4
    finally:
        demo.kill()
        demo.wait()
    deadline = time.monotonic() + 5
    while enclaves_of(network) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert enclaves_of(network) == []
