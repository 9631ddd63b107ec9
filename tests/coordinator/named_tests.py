"""Tests by their ids, for tables that say which test shows what."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def missing(ids: Iterator[str]) -> list[str]:
    """Those of the ids (`tests/path.py::test_name`, `tests/path.py::TestClass::test_name`) that name no test."""
    return [name for name in ids if name not in known_tests(name.partition("::")[0])]


@functools.cache
def known_tests(path: str) -> frozenset[str]:
    """Ids of all tests of a module, which is not imported; none if there is no such file."""
    file = ROOT / path
    return frozenset(_ids(path, ast.parse(file.read_text()).body)) if file.is_file() else frozenset()


def _ids(prefix: str, body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _ids(f"{prefix}::{node.name}", node.body)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield f"{prefix}::{node.name}"
