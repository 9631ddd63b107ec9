"""What Istio decides, from its reference of AuthorizationPolicy and its path normalisation. For tests: small and pure.

Without an ALLOW policy for the workload everything is allowed. Policies are OR-ed, their rules are OR-ed; in a rule one
source AND one operation AND all conditions have to fit. A rule with HTTP fields fits no TCP connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """A connection if `path` is None, else a request."""

    source: str  # name.namespace
    namespace: str
    app: str
    port: int
    method: str = ""
    path: str | None = None
    headers: dict = field(default_factory=dict)

    @property
    def source_name(self):
        return self.source.partition(".")[0]

    @property
    def source_namespace(self):
        return self.source.partition(".")[2]


def istio_allows(documents, call):
    policies = [
        document["spec"]
        for document in documents
        if document["kind"] == "AuthorizationPolicy" and _selects(document, call)
    ]
    assert all(spec.get("action", "ALLOW") == "ALLOW" for spec in policies)
    if not policies:
        return True
    return any(_rule(rule, call) for spec in policies for rule in spec.get("rules", []))


def _selects(document, call):
    wanted = document["spec"].get("selector", {}).get("matchLabels", {})
    return document["metadata"]["namespace"] == call.namespace and wanted.items() <= {"app": call.app}.items()


def _rule(rule, call):
    sources, operations, conditions = rule.get("from"), rule.get("to"), rule.get("when", [])
    return (
        (sources is None or any(_source(each["source"], call) for each in sources))
        and (operations is None or any(_operation(each["operation"], call) for each in operations))
        and all(_condition(each, call) for each in conditions)
    )


def _source(source, call):
    assert source.keys() <= {"principals", "namespaces"}
    principal = f"cluster.local/ns/{call.source_namespace}/sa/{call.source_name}"
    return ("principals" not in source or any(_text(p, principal) for p in source["principals"])) and (
        "namespaces" not in source or any(_text(n, call.source_namespace) for n in source["namespaces"])
    )


def _operation(operation, call):
    assert operation.keys() <= {"ports", "methods", "paths"}
    if "ports" in operation and str(call.port) not in operation["ports"]:
        return False
    if call.path is None:
        return not operation.keys() & {"methods", "paths"}
    return ("methods" not in operation or any(_text(m, call.method) for m in operation["methods"])) and (
        "paths" not in operation or any(_text(p, normalised(call.path)) for p in operation["paths"])
    )


def _condition(condition, call):
    name = re.fullmatch(r"request\.headers\[(.*)\]", condition["key"])[1]
    if call.path is None or name not in call.headers:
        return False
    return any(_text(value, call.headers[name]) for value in condition["values"])


def _text(pattern, value):
    if pattern == "*":
        return value != ""
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern


def normalised(path):
    """Query cut off, dot segments resolved, slashes merged; escaped slashes stay."""
    done: list[str] = []
    parts = path.partition("?")[0].split("/")[1:]
    for number, part in enumerate(parts):
        if part == "..":
            done = done[:-1]
        elif part != ".":
            done.append(part)
            continue
        if number == len(parts) - 1:
            done.append("")
    return re.sub("//+", "/", "/" + "/".join(done))
