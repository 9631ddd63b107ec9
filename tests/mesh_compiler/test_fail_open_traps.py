"""Ways in which a mesh like this one stands open by mistake. In each, first the mistake, and then the shut door.

| trap | of | test |
|---|---|---|
| 1 | empty principals mean anybody, empty ports any | `test_trap_1_nobody_means_anybody` |
| 2 | an HTTP rule grants all TCP ports | `test_trap_2_a_rule_for_requests_grants_connections` |
| 3 | a service that no target names is open | `test_trap_3_no_target_no_rules` |
| 4 | a rule without matches | `test_trap_4_a_rule_without_matches` |
| 5 | a filter without `rules` | `test_trap_5_a_filter_without_rules` |
| 6 | an override without `rbac` | `test_trap_6_an_override_without_rules` |
| 7 | a pattern is a prefix | `test_trap_7_a_pattern_is_no_prefix` |
| 8 | permissive by default | `test_trap_8_permissive_by_default` |
| 9 | another spelling of a path | `test_trap_9_another_spelling_of_a_path` |
| 10 | what a server says first | `test_trap_10_a_server_that_speaks_first` |
| 11 | a root that is missing | `test_trap_11_no_root` |

Of 2, 3, 4, 7 and 8 the mistake is the control plane's, so there is no bad shape of Envoy's to show: its own shapes
are in the others. 1 to 9 are known of OSM and Envoy (ADR 0011 and 0014 say what is done instead).
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from mesh_world import (
    BUYER,
    SHOP,
    TEXTS,
    TEXTS2,
    THIEF,
    WATCHER,
    ask,
    documents,
    http,
    match,
    service_of,
    speaks,
    target,
    tcp,
)

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import MeshConfig
from confidential_bookstore.secret import Secret
from mesh.compiler import compile_sidecar, rbac, secrets

SHOP_KEY, TEXTS_KEY = service_of(SHOP).key, service_of(TEXTS).key
BUYERS = documents(target("b", SHOP, [BUYER], http(match("/buy.*"))), target("b", TEXTS, [BUYER], tcp(3306)))
ANY_ALPN = ("osm/bookthief.bookthief", "osm")


def changed(world, change, documents_=BUYERS):
    """Puts a configuration in force whose objects `change` has spoiled."""
    resources = copy.deepcopy(world.compile(documents_))
    for each in [*resources.listeners, *resources.routes]:
        _walk(each, change)
    world.put_resources(resources)


def _walk(value, change):
    if isinstance(value, dict):
        change(value)
        for each in list(value.values()):
            _walk(each, change)
    elif isinstance(value, list):
        for each in value:
            _walk(each, change)


def is_type(value, name):
    return str(value.get("@type", "")).endswith(name)


def shop_is_open(world, path="/buy/a"):
    return world.ask(THIEF, SHOP, path)[0] == 200


def texts_are_open(world):
    return bool(world.lets_connect(THIEF, TEXTS))


def test_trap_1_nobody_means_anybody(world):
    def any_principal(value):
        if "principals" in value:
            value["principals"] = [{"any": True}]  # OSM's for `sources: []`; Envoy takes no empty list

    changed(world, any_principal)
    assert shop_is_open(world)
    nobody = documents(target("n", SHOP, [], http()), target("n", TEXTS, [], tcp()))
    world.put(nobody)
    assert not shop_is_open(world)
    assert not texts_are_open(world)
    with pytest.raises(ValueError, match="nobody"):
        rbac.principals([])
    world.put(documents(target("p", TEXTS, [THIEF], tcp(1))))
    assert not texts_are_open(world)


def test_trap_2_a_rule_for_requests_grants_connections(world):
    world.put(documents(target("h", TEXTS, [THIEF], http())))
    assert not texts_are_open(world)
    world.put(documents(target("t", SHOP, [THIEF], tcp())))
    assert not shop_is_open(world)


def test_trap_3_no_target_no_rules(world):
    world.put(documents())
    for caller in (BUYER, THIEF, WATCHER):
        assert world.ask(caller, SHOP)[0] == 403
        assert not world.lets_connect(caller, TEXTS)
    assert not world.answers_tls(THIEF, TEXTS, alpn=ANY_ALPN)


def test_trap_4_a_rule_without_matches(world):
    """The reader puts all matches of the group there; that is not the same as none."""
    world.put(documents(target("all", SHOP, [BUYER], http(match("/a"), match("/b")))))
    assert [world.ask(BUYER, SHOP, path)[0] for path in ("/a", "/b", "/c")] == [200, 200, 403]
    empty = replace(http(), matches=())
    world.put(documents(target("none", SHOP, [BUYER], empty)))
    assert world.ask(BUYER, SHOP, "/a")[0] == 403


def test_trap_5_a_filter_without_rules(world):
    def no_rules(value):
        if is_type(value, "RBAC"):
            value.pop("rules", None)
        value.pop("typed_per_filter_config", None)

    changed(world, no_rules)
    assert shop_is_open(world)
    sidecars = [compile_sidecar(Policy(BUYERS), world.layout, key) for key in world.layout.services]
    seen = []

    def check(value):
        if is_type(value, ".RBAC"):
            assert value["rules"]["action"] in {"ALLOW", "DENY"}
            assert "policies" in value["rules"]
            seen.append(value)

    for sidecar in sidecars:
        _walk([*sidecar.listeners, *sidecar.routes], check)
    assert len(seen) > 10

    def no_override(value):
        value.pop("typed_per_filter_config", None)

    changed(world, no_override)
    assert world.ask(BUYER, SHOP, "/buy/a")[0] == 403


@pytest.mark.parametrize("spoil", ["empty", "absent"])
def test_trap_6_an_override_without_rules(world, spoil):
    def no_override(value):
        if is_type(value, "RBACPerRoute"):
            value.pop("rbac")
            if spoil == "empty":
                value["rbac"] = {}

    changed(world, no_override)
    assert shop_is_open(world)
    for permissive in (False, True):
        policy = documents(*BUYERS.targets.values(), permissive=permissive)
        overrides = []

        def collect(value, overrides=overrides):
            if is_type(value, "RBACPerRoute"):
                overrides.append(value["rbac"]["rules"])

        _walk(world.compile(policy).routes, collect)
        assert len(overrides) == 4
        assert all(rules["action"] == "ALLOW" for rules in overrides)
    world.put(BUYERS)
    assert not shop_is_open(world)


def test_trap_7_a_pattern_is_no_prefix(world):
    world.put(documents(target("p", SHOP, [BUYER], http(match("/books-bought")))))
    paths = ("/books-bought", "/books-bought?a=/x", "/books-bought/1", "/a/books-bought", "/books-bought2")
    assert [world.ask(BUYER, SHOP, path)[0] for path in paths] == [200, 200, 403, 403, 403]


def test_trap_8_permissive_by_default(world):
    assert not MeshConfig().permissive
    assert not MeshConfig().egress
    egress = replace(documents(), config=MeshConfig(egress=True))
    with pytest.raises(MeshError, match="no egress"):
        compile_sidecar(Policy(egress), world.layout, SHOP_KEY)
    world.put(documents())
    assert not shop_is_open(world)
    assert not texts_are_open(world)


SPELLINGS = (
    "/buy/../secret",
    "/buy/./../secret",
    "/buy/x/../../secret",
    "//buy/..//secret",
    "/buy/%2e%2e/secret",
    "/buy/%2E%2E/secret",
    "/buy/.%2e/secret",
    "/buy%2F..%2Fsecret",
    "/buy/..%2fsecret",
    "/buy/..%5csecret",
    "/buy/..\\secret",
    "/buy/%252e%252e/secret",
    "/secret?/buy/a",
    "/secret;/buy",
    "/./secret",
    "/secret%00/buy",
)


def test_trap_9_another_spelling_of_a_path(world):
    def as_sent(value):
        for name in ("normalize_path", "merge_slashes", "path_with_escaped_slashes_action"):
            value.pop(name, None)

    changed(world, as_sent)
    assert world.ask(BUYER, SHOP, "/buy/../secret")[0] == 200
    world.put(BUYERS)
    kept = world.connection(BUYER, SHOP)
    for path in SPELLINGS:
        status, body = world.ask(BUYER, SHOP, path)
        assert status in {400, 403}, (path, status, body)
    assert ask(kept, "/buy//./x/../a")[1] == '{"name": "shop", "path": "/buy/a"}'
    kept.close()


def test_trap_10_a_server_that_speaks_first(world):
    """Network RBAC is asked at the caller's first byte; until then the server's go out."""
    greeted = documents(target("g", TEXTS2, [BUYER], tcp()))

    def at_once(value):
        for name in ("upstream_connect_mode", "max_early_data_bytes"):
            value.pop(name, None)

    def greeting():
        with world.connect(THIEF, TEXTS2) as thief:
            thief.settimeout(0.5)
            try:
                return thief.recv(5)
            except (TimeoutError, ConnectionError):
                return b""

    changed(world, at_once, greeted)
    assert greeting() == b"hello"
    world.put(greeted)
    assert greeting() == b""
    with world.connect(BUYER, TEXTS2) as buyer:
        assert buyer.recv(5) == b"hello"
        assert speaks(buyer)


def test_trap_11_no_root():
    """Envoy trusts every certificate if it has no root to trust."""
    for root in (b"", b"no certificate"):
        with pytest.raises(MeshError, match="no root"):
            secrets(TEXTS_KEY, b"chain", Secret(b"key"), root)
