"""Every reader of what strangers send, fuzzed: with atheris where it is there, and with mutations everywhere.

`CBS_FUZZ_SECONDS` is how long atheris works on each target; `fuzz.py` runs one of them as long as you like.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from confidential_bookstore.errors import ManifestError

SECONDS = int(os.environ.get("CBS_FUZZ_SECONDS", "3"))
RUNS = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
RUNNER = Path(__file__).parent / "fuzz.py"

odd_values = st.sampled_from(
    [None, True, 0, -1, 2**64, 1.5, "", "\0", "{{", "{{ . }}", "x" * 300, [], [None], {}, {"a": {}}, [[[[]]]], "\ud800"]
)


@st.composite
def mutations(draw: st.DrawFn, name: str) -> bytes:
    """A seed, with a few parts cut out, overwritten, or put in."""
    data = draw(st.sampled_from(list(targets.seeds(name).values())))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        data = (
            data[:start]
            + draw(st.binary(max_size=8) | st.sampled_from([b"{{", b'"', b"[" * 50, b"\xff" * 8]))
            + data[end:]
        )
    return data


@pytest.mark.parametrize("name", targets.TARGETS)
def test_there_is_a_seed_that_is_accepted(name):
    """From which fuzzing gets to what comes after the first check."""
    with capture_logs():
        targets.warm_up(name)
        assert any(targets.check(name, data) for data in targets.seeds(name).values())


@pytest.mark.parametrize("name", targets.TARGETS)
def test_mutations(name):
    targets.warm_up(name)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(mutations(name))
    def run(data: bytes) -> None:
        with capture_logs():
            targets.check(name, data)

    run()


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values of a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


FULL = json.loads((targets.SEEDS / "strict_manifest" / "full").read_text())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places(FULL)[1:]), odd_values)
def test_a_manifest_with_an_odd_value_anywhere(place, value):
    document = json.loads(json.dumps(FULL))
    node = document
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    targets.check("strict_manifest", json.dumps(document).encode())


def fuzz(names: list[str]) -> tuple[int, str]:
    """Exit code and output of atheris on some targets."""
    command = [sys.executable, str(RUNNER), ",".join(names), str(SECONDS)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * len(targets.TARGETS) * SECONDS)
def test_nothing_is_found():
    if importlib.util.find_spec("atheris") is None:
        if os.environ.get("CI") and sys.version_info[:2] == (3, 11):
            pytest.fail("atheris is not installed")
        pytest.skip("atheris is packaged for Python before 3.14 on x86-64 only")
    names = list(targets.TARGETS)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(fuzz, (names[::2], names[1::2])))
    for code, output in outcomes:
        assert code == 0, output[-4000:]
    outputs = re.split(r"^target (\w+)$", "".join(output for _, output in outcomes), flags=re.MULTILINE)
    runs = {name: RUNS.search(output) for name, output in zip(outputs[1::2], outputs[2::2], strict=True)}
    too_few = [name for name in names if not (found := runs.get(name)) or int(found[1]) < 100 * SECONDS]
    assert too_few == []


def spin(_: bytes) -> None:
    end = time.process_time() + targets.MOST_SECONDS + 0.1
    while time.process_time() < end:
        pass


@pytest.mark.parametrize(
    ("run", "finding"),
    [
        (lambda data: data[5], IndexError),
        (spin, AssertionError),
        (lambda _: bytearray(targets.MOST_BYTES * 2).count(1), AssertionError),
    ],
    ids=["another error", "time", "memory"],
)
def test_a_finding_would_be_seen(monkeypatch, run, finding):
    monkeypatch.setitem(targets.TARGETS, "broken", targets.Target(run, (ManifestError,)))
    with pytest.raises(finding):
        targets.check("broken", b"")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is packaged for some Pythons only")
def test_a_finding_can_be_run_again(tmp_path):
    """As a file, which is how atheris leaves it."""
    finding = tmp_path / "crash"
    finding.write_bytes(targets.seeds("enclave_json")["bookstore"])
    again = subprocess.run(
        [sys.executable, str(RUNNER), "enclave_json", "0", str(finding)], capture_output=True, check=False
    )
    assert again.returncode == 0, again.stderr
