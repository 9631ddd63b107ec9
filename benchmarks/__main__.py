"""All measurements in one run: a table on the screen, and `benchmarks/results.json`."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import activations, attested_mtls, footprint, mesh_calls, policy, policy_compile, quote_verification

RESULTS = Path(__file__).with_name("results.json")


def measure_all() -> dict[str, Any]:
    """One result per measurement, and the machine they were taken on."""
    return {
        "machine": {"cpus": os.cpu_count(), "architecture": platform.machine(), "python": platform.python_version()},
        "quote_verification": quote_verification.measure(),
        "footprint": footprint.measure(),
        "attested_mtls": attested_mtls.measure(),
        "mesh_calls": mesh_calls.measure(),
        "policy": policy.measure(),
        "policy_compile": policy_compile.measure(),
        "activations": activations.measure(),
    }


def table(results: dict[str, Any]) -> Table:
    """What was measured, beside its goal."""
    shown = Table(box=box.SIMPLE_HEAD)
    for column in ("what", "measured", "goal"):
        shown.add_column(column)
    quote, prints, calls = results["quote_verification"], results["footprint"], results["attested_mtls"]
    shown.add_row("quote verification: ours / dcap-qvl's call", f"{quote['ratio']:.2f}", "at most 1.20")
    shown.add_row("warm start to the first sale", f"{prints['first_sale_seconds']} s", "at most 10 s")
    for name, megabytes in prints["resident_mb"].items():
        shown.add_row(f"resident under load: {name}", f"{megabytes} MB", "at most 90 MB")
    for in_flight in attested_mtls.IN_FLIGHT:
        row = calls[f"in_flight_{in_flight}"]
        goal = f"at least {calls['goal']}" if in_flight > 1 else ""
        low, high = row["range"]
        shown.add_row(
            f"attested mTLS / no TLS, calls per second, {in_flight} in flight",
            f"{row['ratio']} ({low} to {high}); {row['attested_per_second']}/s",
            goal,
        )
    ways = results["mesh_calls"]
    for in_flight in mesh_calls.IN_FLIGHT:
        row = ways[f"in_flight_{in_flight}"]
        goal = f"at least {mesh_calls.GOAL_RATE}" if in_flight > 1 else ""
        shown.add_row(
            f"attested mTLS / no TLS beside sidecars, rate, {in_flight} in flight",
            f"{row['rate_of_plain']['median']}",
            goal,
        )
        goal = f"at most {mesh_calls.GOAL_LATENCY}" if in_flight == 1 else ""
        shown.add_row(
            f"attested mTLS / two sidecars, p50, {in_flight} in flight", f"{row['p50_of_sidecars']['median']}", goal
        )
    shown.add_row(
        "the guard's share of a call", f"{ways['guard']['of_call']:.1%}", f"under {mesh_calls.GOAL_GUARD:.0%}"
    )
    answers, compiled = results["policy"], results["policy_compile"]
    slowest = max(each["median"] for each in answers["microseconds"].values())
    shown.add_row("one decision among 1,000 targets, slowest kind", f"{slowest} us", f"under {answers['goal']:.0f} us")
    whole = compiled["read_ms"] + compiled["compile_ms"]
    shown.add_row("reading and compiling 1,000 targets", f"{whole:.0f} ms", "under 1,000 ms")
    for row_of_table in activations.rows(results["activations"]):
        shown.add_row(*row_of_table)
    return shown


def main() -> None:
    """Measure, write, show."""
    results = measure_all()
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    mesh_calls.PLOT.write_text(mesh_calls.plot(results["mesh_calls"]))
    Console().print(table(results))


if __name__ == "__main__":
    main()
