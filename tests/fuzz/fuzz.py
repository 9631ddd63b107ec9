"""Fuzzes targets with atheris, guided by the coverage of the project's own code.

Usage: python tests/fuzz/fuzz.py TARGET[,TARGET...] [SECONDS [FOLDER]]

Inputs that lead to something new are kept in FOLDER, if there is one, so that a long run can go on later. An input that
is a finding is written there as `crash-...`, and printed; `python tests/fuzz/fuzz.py TARGET 0 crash-...` runs it again.
The exit code is 0 if there was none. Atheris owns its process and never returns, so every target has a process.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NoReturn

import atheris
import structlog

with atheris.instrument_imports(include=["coordinator", "confidential_bookstore"]):
    import targets


def main(names: str, seconds: str = "60", where: str = "") -> int:
    """The exit code. Code is instrumented once, which takes longer than finding something."""
    warnings.simplefilter("ignore")  # cryptography's, of odd names in certificates
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    worst = 0
    for name in names.split(","):
        print(f"target {name}", flush=True)  # noqa: T201 - a program for people
        child = os.fork()
        if child == 0:
            fuzz(name, seconds, where)
        _, status = os.waitpid(child, 0)
        worst = worst or abs(os.waitstatus_to_exitcode(status))
    return worst


def fuzz(name: str, seconds: str, where: str) -> NoReturn:
    """One target, or one input of it."""
    target = targets.TARGETS[name]
    targets.warm_up(name)
    if Path(where).is_file():
        targets.check(name, Path(where).read_bytes())
        sys.exit(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder, words = Path(where or temporary) / name, Path(temporary) / "words"
        folder.mkdir(parents=True, exist_ok=True)
        words.write_text("".join(map(_entry, target.words)))
        options = [f"-max_total_time={seconds}", f"-max_len={target.longest}", "-print_final_stats=1"]
        options += [f"-dict={words}"] if target.words else []
        places = [f"-artifact_prefix={folder}/", str(folder), str(targets.SEEDS / name)]
        atheris.Setup([sys.argv[0], *options, *places], lambda data: targets.check(name, data))
        atheris.Fuzz()
    raise AssertionError("atheris has returned")


def _entry(word: str) -> str:
    """A line of a dictionary of libFuzzer."""
    escaped = "".join(f"\\x{byte:02x}" for byte in word.encode("latin-1"))
    return f'"{escaped}"\n'


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
