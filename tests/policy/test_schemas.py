"""The JSON Schemas: the files are what the code says, take our own policy, and see the mistakes that they can."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from confidential_bookstore.policy.smi.reading import API_VERSIONS, check_texts, folder_texts
from confidential_bookstore.policy.smi.schemas import json_schemas

ROOT = Path(__file__).parents[2]
SCHEMAS = json_schemas()
TEXTS = folder_texts(ROOT / "deploy/manifests/smi")
VARIANTS = folder_texts(ROOT / "deploy/manifests/smi-variants")
DOCUMENTS = [each for texts in (TEXTS, VARIANTS) for text in texts.values() for each in yaml.safe_load_all(text)]


def errors(document: Any) -> list[str]:
    name = f"{document['kind']}-{document['apiVersion'].rpartition('/')[2]}.json"
    return [error.message for error in Draft202012Validator(SCHEMAS[name]).iter_errors(document)]


def test_the_files_are_what_the_code_says():
    folder = ROOT / "docs/reference/smi"
    assert {path.name: json.loads(path.read_text()) for path in folder.iterdir()} == SCHEMAS
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        assert (folder / name).read_text() == json.dumps(schema, indent=2) + "\n"


def test_every_kind_and_version_has_one():
    versions = {f"{kind}-{each.rpartition('/')[2]}.json" for kind, every in API_VERSIONS.items() for each in every}
    assert versions == set(SCHEMAS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_our_own_documents_are_taken(document):
    assert errors(document) == []


def first(kind: str) -> dict[str, Any]:
    return copy.deepcopy(next(each for each in DOCUMENTS if each["kind"] == kind))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("TrafficTarget", {"sources": []}),
        ("TrafficTarget", {"rules": []}),
        ("TrafficTarget", {"rules": [{"kind": "UDPRoute", "name": "x"}]}),
        ("TrafficTarget", {"rules": [{"kind": "TCPRoute", "name": "x", "matches": ["y"]}]}),
        ("TrafficTarget", {"rules": [{"kind": "HTTPRouteGroup", "name": "x", "matches": []}]}),
        ("TrafficTarget", {"destination": {"kind": "Service", "name": "bookstore"}}),
        ("TrafficTarget", {"destination": {"kind": "ServiceAccount", "name": "Bookstore"}}),
        ("TrafficTarget", {"from": []}),
        ("HTTPRouteGroup", {"matches": []}),
        ("HTTPRouteGroup", {"matches": [{"pathRegex": "/"}]}),
        ("HTTPRouteGroup", {"matches": [{"name": "x", "methods": ["post"]}]}),
        ("HTTPRouteGroup", {"matches": [{"name": "x", "methods": []}]}),
        ("HTTPRouteGroup", {"matches": [{"name": "x", "headers": {"a": "b"}}]}),
        ("HTTPRouteGroup", {"matches": [{"name": "x", "headers": [{"a": "b", "c": "d"}]}]}),
        ("HTTPRouteGroup", {"matches": [{"name": "x", "headers": [{":method": "b"}]}]}),
        ("HTTPRouteGroup", {"matches": [{"name": "x", "path": "/"}]}),
        ("TCPRoute", {"matches": {}}),
        ("TCPRoute", {"matches": {"ports": [0]}}),
        ("TCPRoute", {"matches": {"ports": ["14001"]}}),
        ("TCPRoute", {"matches": {"ports": [1, 1]}}),
        ("TrafficSplit", {"backends": []}),
        ("TrafficSplit", {"backends": [{"service": "x", "weight": 0}]}),
        ("TrafficSplit", {"backends": [{"service": "x", "weight": -1}, {"service": "y", "weight": 2}]}),
        ("TrafficSplit", {"backends": [{"service": "x", "weight": 0.5}]}),
        ("TrafficSplit", {"matches": [{"kind": "HTTPRouteGroup", "name": "x"}]}),
        ("MeshConfig", {"traffic": {"enablePermissiveTrafficPolicyMode": "true"}}),
        ("MeshConfig", {"sidecar": {}}),
        ("MeshService", {"port": 65536}),
        ("MeshService", {"appProtocol": "https"}),
        ("MeshService", {"appProtocol": "http", "grpcServices": ["a.B"]}),
        ("MeshService", {"grpcServices": ["a/B"]}),
    ],
)
def test_mistakes_that_a_schema_sees(kind, spec):
    document = first(kind)
    document["spec"] |= spec
    assert errors(document)


def test_only_the_newest_split_has_matches():
    document = first("TrafficSplit")
    document["spec"]["matches"] = [{"kind": "HTTPRouteGroup", "name": "x"}]
    document["apiVersion"] = "split.smi-spec.io/v1alpha4"
    assert not errors(document)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, child in inner for each in places(child, (*path, key)))]


@st.composite
def spoiled(draw: st.DrawFn) -> dict[str, Any]:
    """One of our documents, with one value taken out, replaced or added."""
    document = copy.deepcopy(draw(st.sampled_from([each for each in DOCUMENTS if each["kind"] != "MeshConfig"])))
    path = draw(st.sampled_from([each for each in places(document["spec"]) if each]))
    holder = document["spec"]
    for key in path[:-1]:
        holder = holder[key]
    value = draw(
        st.sampled_from([[], {}, "", "x", "X", "a.b", 0, 1, -1, 14001, 70000, 1.5, True, None, ["x"], "*", "("])
    )
    if draw(st.booleans()):
        holder[path[-1]] = value
    elif draw(st.booleans()):
        del holder[path[-1]]
    elif isinstance(holder, dict):
        holder[draw(st.sampled_from(["extra", "matches", "namespace", "headers"]))] = value
    else:
        holder.append(value)
    return document


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spoiled())
def test_what_the_schema_refuses_cannot_be_read(document):
    if errors(document):
        assert check_texts({"spoiled.json": json.dumps(document)})
