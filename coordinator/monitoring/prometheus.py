"""Counters, gauges and histograms, and how Prometheus reads them: its text format, version 0.0.4.

Written down here because a client library would be one more dependency of the trusted coordinator. Format and rules:
https://prometheus.io/docs/instrumenting/exposition_formats/

A family is one metric with all its series, one per combination of label values. Label values are whatever the caller
says: it is the caller who bounds them. A label whose value is empty is left out, which means the same to Prometheus.
Not for use from several threads at a time.
"""

from __future__ import annotations

import bisect
import itertools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Family(ABC):
    """What all kinds of metrics have in common.

    Args:
        name: of the metric.
        meaning: one sentence.
        labels: their names; every series has a value for each.
    """

    kind: str

    def __init__(self, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        for pattern, text in ((_METRIC_NAME, name), *((_LABEL_NAME, label) for label in labels)):
            if not pattern.fullmatch(text):
                raise ValueError(f"{text!r} is no name of a metric or label")
        self.name = name
        self.meaning = meaning
        self.labels = tuple(labels)

    def exposition(self) -> str:
        """The family with its series, in the order of their labels."""
        head = f"# HELP {self.name} {_escaped_help(self.meaning)}\n# TYPE {self.name} {self.kind}\n"
        return head + "".join(f"{line}\n" for line in self._samples())

    @abstractmethod
    def _samples(self) -> Iterator[str]: ...

    def _sample(self, series: Sequence[str], value: float, *, suffix: str = "", bound: str = "") -> str:
        pairs = [*zip(self.labels, series, strict=True), *([("le", bound)] if bound else [])]
        text = ",".join(f'{label}="{_escaped_label(content)}"' for label, content in pairs if content)
        return f"{self.name}{suffix}{{{text}}} {number(value)}" if text else f"{self.name}{suffix} {number(value)}"

    def _series(self, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}")
        return values


class _Values(Family):
    """One number per series. Without labels there is one series from the start."""

    def __init__(self, name: str, meaning: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, meaning, labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, series: tuple[str, ...]) -> bool:
        return series in self._values

    def _samples(self) -> Iterator[str]:
        return (self._sample(series, value) for series, value in sorted(self._values.items()))


class Counter(_Values):
    """Only grows."""

    kind = "counter"

    def add(self, *series: str, amount: int = 1) -> None:
        """`amount` is 0 or more; 0 makes the series visible."""
        if amount < 0:
            raise ValueError("a counter never falls")
        key = self._series(series)
        self._values[key] = self._values.get(key, 0) + amount


class Gauge(_Values):
    """Goes up and down."""

    kind = "gauge"

    def set(self, value: float, *series: str) -> None:
        """The value of now."""
        self._values[self._series(series)] = value

    def change(self, by: float, *series: str) -> None:
        """Adds `by`, which may be negative."""
        key = self._series(series)
        self._values[key] = self._values.get(key, 0) + by


class Histogram(Family):
    """How many observations are at or below each bound, their number and their sum.

    Args:
        bounds: of the buckets, rising and finite; the bucket without bound is added.
    """

    kind = "histogram"

    def __init__(self, name: str, meaning: str, labels: Sequence[str] = (), *, bounds: Sequence[float]) -> None:
        super().__init__(name, meaning, labels)
        if not all(map(math.isfinite, bounds)) or any(low >= high for low, high in itertools.pairwise(bounds)):
            raise ValueError("bounds of buckets are finite and rise")
        self._bounds = tuple(bounds)
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        if not labels:
            self._open(())

    def observe(self, value: float, *series: str) -> None:
        """Counts a value.

        Raises:
            ValueError: it is not a number.
        """
        if math.isnan(value):
            raise ValueError("NaN cannot be observed")
        key = self._series(series)
        if key not in self._sums:
            self._open(key)
        self._buckets[key][bisect.bisect_left(self._bounds, value)] += 1
        self._sums[key] += value

    def _open(self, series: tuple[str, ...]) -> None:
        self._buckets[series] = [0] * (len(self._bounds) + 1)
        self._sums[series] = 0

    def _samples(self) -> Iterator[str]:
        for series, buckets in sorted(self._buckets.items()):
            counts = list(itertools.accumulate(buckets))
            for bound, count in zip((*self._bounds, math.inf), counts, strict=True):
                yield self._sample(series, count, suffix="_bucket", bound=number(bound))
            yield self._sample(series, self._sums[series], suffix="_sum")
            yield self._sample(series, counts[-1], suffix="_count")


def number(value: float) -> str:
    """As Go writes it: whole numbers without a point, infinity as +Inf."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


def _escaped_label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
