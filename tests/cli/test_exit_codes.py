"""The exit codes that `cbs --help` promises."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, ""),
        ([], 3, ""),
        (["frob"], 3, "No such command 'frob'"),
        (["enclave", "sign"], 3, "Missing"),
        (["demo", "--output", "xml"], 3, "xml"),
        (["enclave", "info", "/nowhere"], 3, "cannot read the enclave"),
    ],
)
def test_exit_codes(arguments, code, said):
    done = subprocess.run([sys.executable, "-m", "cli", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
