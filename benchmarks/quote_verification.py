"""What our rules add to dcap-qvl: `python benchmarks/quote_verification.py`.

Real quotes, collateral at hand. All sides alternate in one run, so that a busy machine slows all.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import dcap_qvl

from confidential_bookstore.attestation.collateral import DirectoryCollateral
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.verifier import Verifier

VECTORS = Path(__file__).parents[1] / "tests" / "vectors"
NAMES = ("sgx-v3-00606a000000-c81a90ee", "sgx-v3-00a067110000-f8b81014", "tdx-v5-b0c06f000000-fd88575b")


def measure(rounds: int = 300) -> dict[str, float]:
    """Median milliseconds and their ratios.

    `ours` is everything from the bytes to the claims, except fetching collateral. `dcap_qvl` is the one call of
    dcap-qvl inside it, so `ratio` is what our rules cost. `one_shot` is `dcap_qvl.verify`, which reports fewer claims.
    """
    times: dict[str, list[float]] = {"dcap_qvl": [], "one_shot": [], "ours": []}
    for name in NAMES:
        actions = _actions(VECTORS / name)
        for action in actions.values():
            action()
        for _ in range(rounds):
            for side, action in actions.items():
                times[side].append(_milliseconds(action))
    medians = {side: statistics.median(values) for side, values in times.items()}
    return {
        **{f"{side}_ms": median for side, median in medians.items()},
        "ratio": medians["ours"] / medians["dcap_qvl"],
        "ratio_to_one_shot": medians["ours"] / medians["one_shot"],
    }


def _actions(folder: Path) -> dict[str, Callable[[], object]]:
    raw = (folder / "quote.bin").read_bytes()
    collateral = dcap_qvl.QuoteCollateralV3.from_json((folder / "collateral.json").read_text())
    expected = json.loads((folder / "expected.json").read_text())
    report_data, now = bytes.fromhex(expected["report_data"]), expected["now"]
    bare = dcap_qvl.QuoteVerifier(None)
    verifier = Verifier(TrustRoot.intel(), DirectoryCollateral(VECTORS))
    return {
        "dcap_qvl": lambda: bare.verify_with_policy(raw, collateral, now, dcap_qvl.QuotePolicy.claims_only(now)),
        "one_shot": lambda: dcap_qvl.verify(raw, collateral, now),
        "ours": lambda: verifier.check(parse_quote(raw), collateral, report_data, now),
    }


def _milliseconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    for key, value in measure().items():
        print(f"{key:18} {value:.3f}")
