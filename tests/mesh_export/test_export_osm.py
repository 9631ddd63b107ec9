"""The policy for OSM itself: our own reader takes the documents back, and they say the same."""

from __future__ import annotations

import pytest
import yaml
from export_policies import (
    BUYER,
    PATTERNS,
    SERVICES,
    SHOP,
    TEXTS,
    THIEF,
    allowed,
    calls,
    documents,
    http,
    match,
    random_documents,
    target,
    tcp,
)
from hypothesis import given, settings

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Backend, HttpRule, MeshConfig, Protocol, Service, Split, TcpRule
from confidential_bookstore.policy.smi.reading import read_texts
from mesh.export.osm import export

CALLERS = [Service(each.name, each.namespace, each, 14001, Protocol.GRPC) for each in (BUYER, THIEF)]
SMI = ("HTTPRouteGroup", "TCPRoute", "TrafficTarget", "TrafficSplit")


def registry():
    """The services as MeshService documents, which OSM does not know; what is sealed is opaque there."""
    return [
        {
            "apiVersion": "mesh.confidential-bookstore/v1alpha1",
            "kind": "MeshService",
            "metadata": {"name": service.name, "namespace": service.namespace},
            "spec": {
                "serviceAccount": service.account.name,
                "port": service.port,
                "appProtocol": service.seen_as.value,
            },
        }
        for service in (*SERVICES.values(), *CALLERS)
    ]


def read_back(exported):
    smi = [document for document in exported.documents if document["kind"] in SMI]
    return read_texts({"osm.yaml": yaml.safe_dump_all([*registry(), *smi])})


def kinds(exported, kind):
    return [document for document in exported.documents if document["kind"] == kind]


def named(policy):
    """With names that are different for different rules, as a reader's documents have them."""
    number = 0
    targets = []
    for each in policy.targets.values():
        rules = []
        for rule in each.rules:
            number += 1
            if isinstance(rule, HttpRule):
                matches = (match_named(m, f"m{n}") for n, m in enumerate(rule.matches))
                rules.append(http(*matches, group=f"{each.destination.namespace}/g{number}"))
            else:
                rules.append(type(rule)(f"{each.destination.namespace}/t{number}", rule.ports, rule.origin))
        targets.append(target(each.name.partition("/")[2], each.destination, each.sources, *rules))
    return documents(*targets)


def match_named(each, name):
    return type(each)(name, each.path, each.methods, each.headers)


def strange_port(each):
    ports = {service.port for service in SERVICES.values() if service.account == each.destination}
    return any(isinstance(rule, TcpRule) and rule.ports - ports for rule in each.rules)


@settings(max_examples=200)
@given(random_documents(PATTERNS, ("bookbuyer", "a|b")), calls())
def test_our_reader_takes_them_back(policy, asked):
    service, call = asked
    mixed = service.account == TEXTS  # the HTTP rules of an account that is opaque, too, are left out
    if mixed and call.path is not None:
        return
    if any(strange_port(each) for each in policy.targets.values()):
        return  # our reader is stricter: no service of that account has the port
    before = allowed(Policy(named(policy)), service, call).allowed
    assert allowed(Policy(read_back(export(named(policy)))), service, call).allowed == before


def test_all_matches_are_named():
    """In OSM a rule without `matches` has no route."""
    exported = export(documents(target("a", SHOP, [BUYER], http(match("/a", name="x"), match("/b", name="y")))))
    [found] = kinds(exported, "TrafficTarget")
    assert found["spec"]["rules"] == [{"kind": "HTTPRouteGroup", "name": "g", "matches": ["x", "y"]}]


def test_an_opaque_service_gets_no_http_rule():
    """In OSM it would grant every TCP port."""
    sealed = SERVICES["bookstore/bookstore-sealed"].account
    exported = export(documents(target("a", sealed, [BUYER], http(match("/a")), tcp(14001))))
    [found] = kinds(exported, "TrafficTarget")
    assert [rule["kind"] for rule in found["spec"]["rules"]] == ["TCPRoute"]
    assert kinds(exported, "HTTPRouteGroup") == []
    nothing = export(documents(target("a", sealed, [BUYER], http(match("/a")))))
    assert kinds(nothing, "TrafficTarget") == []
    assert any("grants nothing" in note for note in nothing.notes)


def test_permissive_mode_and_egress_are_switched_off():
    """Both are OSM's defaults."""
    [config] = kinds(export(documents()), "MeshConfig")
    assert config["spec"]["traffic"] == {"enablePermissiveTrafficPolicyMode": False, "enableEgress": False}
    with pytest.raises(MeshError, match="permissive"):
        export(documents(config=MeshConfig(permissive=True)))


def test_a_split():
    backends = (Backend("bookstore/bookstore-v1", 50), Backend("bookstore/texts-pages", 50))
    root = "bookstore/bookstore"
    splits = {root: Split("bookstore/s", root, backends, (), target("a", SHOP, [THIEF]).origin)}
    exported = export(documents(splits=splits))
    [found] = kinds(exported, "TrafficSplit")
    assert found["spec"]["service"] == "bookstore"
    assert found["spec"]["backends"] == [
        {"service": "bookstore-v1", "weight": 50},
        {"service": "texts-pages", "weight": 50},
    ]
    some = {root: Split("bookstore/s", root, backends, (match("/a"),), target("a", SHOP, [THIEF]).origin)}
    with pytest.raises(MeshError, match="split"):
        export(documents(splits=some))


def test_services_are_what_a_sidecar_sees():
    found = {d["metadata"]["name"]: d["spec"]["ports"][0]["appProtocol"] for d in kinds(export(documents()), "Service")}
    assert found["bookstore-sealed"] == Protocol.TCP.value
    assert found["bookstore"] == Protocol.GRPC.value
    assert {d["metadata"]["name"] for d in kinds(export(documents()), "ServiceAccount")} == {
        "bookstore",
        "sealed",
        "shop",
        "texts",
    }
