"""Where things listen, and the names and files of what is compiled; without an Envoy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mesh_world import BUYER, SERVICES, SHOP, STORE, TEXTS, documents, service_of, target, tcp

from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Protocol, Service
from mesh.compiler import (
    Address,
    Layout,
    Placement,
    bootstrap,
    compile_sidecar,
    files,
    read_layout,
    version_statistics,
)

SHOP_KEY, BUYER_KEY = service_of(SHOP).key, service_of(BUYER).key
WRITTEN = {
    SHOP_KEY: {"application": "127.0.0.2:8080", "inbound": "127.0.0.2:15003"},
    BUYER_KEY: {"application": "[::1]:80", "outbound": {SHOP_KEY: "127.0.0.1:16001"}},
}


def layout(**changes):
    return read_layout(json.dumps({"services": {**WRITTEN, **changes}}), SERVICES)


def test_reading():
    found = layout().services
    assert found[SHOP_KEY] == Placement(service_of(SHOP), Address("127.0.0.2", 8080), Address("127.0.0.2", 15003))
    assert found[BUYER_KEY].application == Address("::1", 80)
    assert str(found[BUYER_KEY].application) == "[::1]:80"
    assert found[BUYER_KEY].outbound == {SHOP_KEY: Address("127.0.0.1", 16001)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no JSON"),
        ("[]", "another form"),
        ('{"services": {}, "more": 1}', "another form"),
        ('{"services": []}', "another form"),
    ],
)
def test_no_layout(text, words):
    with pytest.raises(ConfigurationError, match=words):
        read_layout(text, SERVICES)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("no/body", {"application": "127.0.0.1:1"}, "not registered"),
        (TEXTS_KEY := service_of(TEXTS).key, {}, "another form"),
        (TEXTS_KEY, {"application": "127.0.0.1:1", "port": 1}, "another form"),
        (TEXTS_KEY, {"application": "127.0.0.1:1", "outbound": []}, "no object"),
        (TEXTS_KEY, {"application": "127.0.0.1:1", "outbound": {"no/body": "127.0.0.1:2"}}, "no inbound address"),
        (TEXTS_KEY, {"application": "127.0.0.1:1", "outbound": {BUYER_KEY: "127.0.0.1:2"}}, "no inbound address"),
        (TEXTS_KEY, {"application": "127.0.0.2:15003"}, "two things on 127.0.0.2:15003"),
        *(
            (TEXTS_KEY, {"application": each}, "no address")
            for each in (
                "127.0.0.1",
                "localhost:1",
                "127.0.0.1:0",
                "127.0.0.1:65536",
                "127.0.0.1:-1",
                ":1",
                "",
                None,
                1,
            )
        ),
    ],
)
def test_mistakes(key, value, words):
    with pytest.raises(ConfigurationError, match=words):
        layout(**{key: value})


def test_another_name_of_one_program():
    """A service without a place is reached where the same account has the same port and protocol, if that is clear."""
    store = service_of(STORE)
    alias = Service("bookstore-v1", "bookstore", STORE, store.port, Protocol.GRPC)
    place = Placement(store, Address("127.0.0.1", 1), Address("127.0.0.1", 2))
    assert Layout({store.key: place}).inbound(alias) == (store, Address("127.0.0.1", 2))
    other_port = Service("bookstore-v1", "bookstore", STORE, 1, Protocol.GRPC)
    with pytest.raises(ConfigurationError, match="got nothing"):
        Layout({store.key: place}).inbound(other_port)
    twin = Service("twin", "bookstore", STORE, store.port, Protocol.GRPC)
    second = Placement(twin, Address("127.0.0.1", 3), Address("127.0.0.1", 4))
    with pytest.raises(ConfigurationError, match="bookstore/bookstore, bookstore/twin"):
        Layout({store.key: place, twin.key: second}).inbound(alias)
    with pytest.raises(ConfigurationError, match="no service no/body"):
        compile_sidecar(Policy(documents()), Layout({}), "no/body")


def test_names_are_unique_over_all_sidecars():
    ports = iter(range(1, 10_000))
    keys = [each for each in SERVICES if SERVICES[each].port != 9]

    def place(key):
        outbound = {each: Address("127.0.0.1", next(ports)) for each in keys if each != key}
        return Placement(SERVICES[key], Address("127.0.0.1", next(ports)), Address("127.0.0.1", next(ports)), outbound)

    whole = Layout({key: place(key) for key in keys})
    sidecars = [compile_sidecar(Policy(documents()), whole, key) for key in keys]
    for kind in ("clusters", "listeners", "routes"):
        found = [each["name"] for sidecar in sidecars for each in getattr(sidecar, kind)]
        assert len(found) == len(set(found)) > 20
    prefixes = [text for sidecar in sidecars for text in _values(sidecar.listeners, "stat_prefix")]
    routed = {each["name"] for sidecar in sidecars for each in sidecar.routes}
    assert len([each for each in prefixes if each in routed]) == len(routed)


def _values(value, name):
    if isinstance(value, dict):
        found = [value[name]] if name in value else []
        return found + [each for inner in value.values() for each in _values(inner, name)]
    return [each for inner in value for each in _values(inner, name)] if isinstance(value, list) else []


def test_the_same_in_the_same_out():
    documents_ = documents(target("b", TEXTS, [BUYER], tcp(1, 3306)), target("a", SHOP, [BUYER], tcp()))
    turned = documents(*reversed(documents_.targets.values()))
    first, second = (compile_sidecar(Policy(each), layout(), SHOP_KEY) for each in (documents_, turned))
    assert json.dumps(files(first, "1")) == json.dumps(files(second, "1"))


def test_files():
    resources = compile_sidecar(Policy(documents()), layout(), SHOP_KEY)
    made = files(resources, "7-abc")
    assert list(made) == ["cds.json", "lds.json", "rds-inbound_shop_shop.json"]
    assert {each["version_info"] for each in made.values()} == {"7-abc"}
    assert version_statistics(resources) == {
        "cds.json": "cluster_manager.cds.version_text",
        "lds.json": "listener_manager.lds.version_text",
        "rds-inbound_shop_shop.json": "http.inbound_shop_shop.rds.inbound_shop_shop.version_text",
    }
    config = bootstrap(SHOP_KEY, Path("/somewhere"), Path("a.sock"))
    assert config["admin"]["address"]["pipe"] == {"path": "a.sock", "mode": 0o600}
    assert config["node"]["id"] == SHOP_KEY
