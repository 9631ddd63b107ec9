"""Promises that the repository makes about itself."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import confidential_bookstore

ROOT = Path(__file__).parents[2]
ROOMS = ("confidential_bookstore", "coordinator", "mesh", "services", "cli", "demo", "benchmarks")


def modules() -> list[Path]:
    return [
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "api" not in path.relative_to(ROOT).parts and "__pycache__" not in path.parts
    ]


def test_no_module_is_over_500_lines():
    files = [*modules(), *(ROOT / "tests").rglob("*.py")]
    too_long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in too_long.items() if lines > 500} == {}


def test_every_module_says_what_it_is_for():
    silent = [str(path.relative_to(ROOT)) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        declared += extra
    names = {re.split(r"[\[><=; ]", requirement)[0] for requirement in declared} - {project["name"]}
    page = (ROOT / "docs/explanation/dependencies.md").read_text()
    assert [name for name in sorted(names) if not re.search(rf"(\| {name} \||`{name}`)", page)] == []


def test_the_version_stands_in_two_places_alike():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == confidential_bookstore.__version__


def test_stubs_are_those_of_the_protos(tmp_path):
    """`make proto` in a copy changes nothing."""
    for name in ("proto", "confidential_bookstore/api", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    if (ROOT / "build/proto/.ready").exists():
        (tmp_path / "build").mkdir()
        (tmp_path / "build/proto").symlink_to(ROOT / "build/proto")
    made = subprocess.run(
        ["make", "-s", "proto", f"PYTHON={sys.executable}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    if made.returncode and not os.environ.get("CI"):
        pytest.skip(f"the generator could not be installed: {made.stderr[-200:]}")
    assert made.returncode == 0, made.stderr
    changed = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "confidential_bookstore/api").rglob("*_pb2*")
        if path.suffix in {".py", ".pyi"} and path.read_bytes() != (tmp_path / path.relative_to(ROOT)).read_bytes()
    ]
    assert changed == []


def test_stubs_run_on_the_oldest_supported_grpcio():
    floor = re.search(r'"grpcio>=([0-9.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    for stub in (ROOT / "confidential_bookstore/api").rglob("*_pb2_grpc.py"):
        stamped = re.search(r"GRPC_GENERATED_VERSION = '([0-9.]+)'", stub.read_text())[1]
        assert stamped.rsplit(".", 1)[0] == floor, stub


def test_locks_pin_every_package_by_hash():
    for lock in (ROOT / "requirements").glob("*.lock"):
        for block in re.split(r"\n(?=[a-z])", lock.read_text())[1:]:
            assert "==" in block.splitlines()[0], (lock.name, block.splitlines()[0])
            assert "--hash=sha256:" in block, (lock.name, block.splitlines()[0])
        assert "://" not in lock.read_text(), "a lock names no index"
