"""Reads Prometheus' text format, strictly, by its grammar."""

from __future__ import annotations

import re

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.+)\})? (\S+)", re.DOTALL)
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read_back(text: str) -> tuple[dict[str, tuple[str, str]], Series]:
    """Kind and meaning of each family, and every sample."""
    assert text.endswith("\n") or not text
    families: dict[str, tuple[str, str]] = {}
    series: Series = {}
    lines = text.split("\n")[:-1]
    current = ""
    while lines:
        line = lines.pop(0)
        if line.startswith("# HELP "):
            _, _, current, meaning = line.split(" ", 3)
            _, _, name, kind = lines.pop(0).split(" ", 3)
            assert name == current
            assert current not in families
            families[current] = kind, re.sub(r"\\[\\n]", lambda match: _ESCAPES[match[0]], meaning)
            continue
        name, labels, value = _SAMPLE.fullmatch(line).groups()
        assert name in {current + suffix for suffix in ("", "_bucket", "_sum", "_count")}
        key = name, frozenset(_labels(labels or ""))
        assert key not in series, "a series is there twice"
        series[key] = float(value.replace("Inf", "inf"))
    return families, series


def _labels(text: str) -> list[tuple[str, str]]:
    found, position = [], 0
    while position < len(text):
        match = _LABEL.match(text, position)
        assert match, text
        content = re.sub(r'\\["\\n]', lambda escape: _ESCAPES[escape[0]], match[2])
        found.append((match[1], content))
        position = match.end()
    return found
