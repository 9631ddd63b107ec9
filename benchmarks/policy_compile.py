"""Reading 1,000 TrafficTargets and compiling them for six sidecars: `python benchmarks/policy_compile.py`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Mapping

from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.reading import read_texts
from mesh.compiler import Resources, compile_sidecar, read_layout
from mesh.compiler.bootstrap import files

TARGETS = 1_000
SIDECARS = 6


def measure(rounds: int = 5) -> dict[str, float]:
    """Median milliseconds of each step, and the size of what comes out."""
    texts = _texts()
    services = read_texts(texts).services
    layout = read_layout(json.dumps(_layout()), services)
    times: dict[str, list[float]] = {"read": [], "compile": [], "as_json": []}
    size = 0
    for _ in range(rounds):
        start = time.perf_counter()
        documents = read_texts(texts)
        read = time.perf_counter()
        policy = Policy(documents)
        sidecars: list[Resources] = [compile_sidecar(policy, layout, key) for key in layout.services]
        compiled = time.perf_counter()
        size = sum(len(json.dumps(files(each, "1"))) for each in sidecars)
        written = time.perf_counter()
        for step, seconds in (("read", read - start), ("compile", compiled - read), ("as_json", written - compiled)):
            times[step].append(seconds * 1000)
    return {**{f"{step}_ms": statistics.median(each) for step, each in times.items()}, "kilobytes": size / 1000}


def _texts() -> Mapping[str, str]:
    services = [
        _document(
            "mesh.confidential-bookstore/v1alpha1",
            "MeshService",
            f"s{index}",
            {"serviceAccount": f"s{index}", "port": 14001, "appProtocol": "tcp" if index % 3 == 0 else "grpc"},
        )
        for index in range(SIDECARS)
    ]
    group = _document(
        "specs.smi-spec.io/v1alpha4",
        "HTTPRouteGroup",
        "calls",
        {
            "matches": [
                {"name": f"m{index}", "pathRegex": rf"/a\.B/C{index}", "methods": ["POST"]} for index in range(3)
            ]
        },
    )
    route = _document("specs.smi-spec.io/v1alpha4", "TCPRoute", "bytes", {"matches": {"ports": [14001]}})
    return {"services.json": _stream(services), "routes.json": _stream([group, route]), "targets.json": _targets()}


def _targets() -> str:
    return _stream(
        _document(
            "access.smi-spec.io/v1alpha3",
            "TrafficTarget",
            f"t{index}",
            {
                "destination": {"kind": "ServiceAccount", "name": f"s{index % SIDECARS}", "namespace": "many"},
                "sources": [
                    {"kind": "ServiceAccount", "name": f"s{(index + 1) % SIDECARS}", "namespace": "many"},
                    {"kind": "ServiceAccount", "name": f"s{(index + 2) % SIDECARS}", "namespace": "many"},
                ],
                "rules": [
                    {"kind": "TCPRoute", "name": "bytes"}
                    if index % SIDECARS % 3 == 0
                    else {"kind": "HTTPRouteGroup", "name": "calls"}
                ],
            },
        )
        for index in range(TARGETS)
    )


def _document(api_version: str, kind: str, name: str, spec: object) -> object:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "many"}, "spec": spec}


def _stream(documents: Iterable[object]) -> str:
    return "\n---\n".join(json.dumps(each) for each in documents)


def _layout() -> object:
    def place(index: int) -> object:
        host = f"127.0.1.{index + 1}"
        others = [other for other in range(SIDECARS) if other != index]
        outbound = {f"many/s{other}": f"{host}:{16000 + other}" for other in others}
        return {"application": f"{host}:14001", "inbound": f"{host}:15003", "outbound": outbound}

    return {"services": {f"many/s{index}": place(index) for index in range(SIDECARS)}}


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:12} {value:.1f}")
