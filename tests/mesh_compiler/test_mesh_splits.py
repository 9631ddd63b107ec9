"""Traffic is split as the policy says: requests one by one, bytes by connection, and what is sealed never."""

from __future__ import annotations

from collections import Counter

import grpc
import pytest
from mesh_world import (
    BUY,
    BUYER,
    LIST,
    SEALED,
    SEALED2,
    SHOP,
    SHOP2,
    STORE,
    STORE2,
    TEXTS,
    TEXTS2,
    THIEF,
    ask,
    call,
    documents,
    http,
    match,
    speaks,
    split,
    target,
    tcp,
)

TARGETS = [
    *(target("all", each, [BUYER], http()) for each in (SHOP, STORE)),
    *(target("v2", each, [BUYER], http()) for each in (SHOP2, STORE2)),
    *(target("bytes", each, [BUYER], tcp()) for each in (TEXTS, SEALED)),
    *(target("bytes-v2", each, [BUYER], tcp()) for each in (TEXTS2, SEALED2)),
]


def put(world, *splits):
    world.put(documents(*TARGETS, splits=splits))


def shares(names):
    counted = Counter(names)
    return {name: counted[name] / counted.total() for name in counted}


@pytest.mark.parametrize("weights", [(50, 50), (90, 10), (1, 3)])
def test_each_call_of_one_channel(world, weights):
    put(world, split(STORE, dict(zip((STORE, STORE2), weights, strict=True))))
    with grpc.insecure_channel(f"127.0.0.1:{world.outbound(BUYER, STORE)}") as buyer:
        got = shares(call(buyer, BUY)[1] for _ in range(1500))
    assert got["bookstore"] == pytest.approx(weights[0] / sum(weights), abs=0.05)
    assert got["bookstore-v2"] == pytest.approx(weights[1] / sum(weights), abs=0.05)


def test_weights_follow_on_an_open_channel(world):
    put(world)
    with grpc.insecure_channel(f"127.0.0.1:{world.outbound(BUYER, STORE)}") as buyer:
        assert {call(buyer, BUY) for _ in range(20)} == {(grpc.StatusCode.OK, "bookstore")}
        put(world, split(STORE, {STORE: 0, STORE2: 100}))
        assert {call(buyer, BUY) for _ in range(20)} == {(grpc.StatusCode.OK, "bookstore-v2")}
        put(world, split(STORE, {STORE: 100, STORE2: 0}))
        assert {call(buyer, BUY) for _ in range(20)} == {(grpc.StatusCode.OK, "bookstore")}


def test_a_backend_needs_its_own_target(world):
    world.put(documents(TARGETS[1], splits=[split(STORE, {STORE: 0, STORE2: 1})]))
    with grpc.insecure_channel(f"127.0.0.1:{world.outbound(BUYER, STORE)}") as buyer:
        assert call(buyer, BUY)[0] is grpc.StatusCode.PERMISSION_DENIED


def test_only_requests_that_match(world):
    """v1alpha4: any of the matches, and in it path, method and every header; the rest goes to the root."""
    by_header = match(None, [], client_app="canary|beta")
    by_path = match("/new/.*", ["GET", "PUT"])
    put(world, split(SHOP, {SHOP2: 1}, by_header, by_path))
    cases = [
        ("/", "GET", [], "shop"),
        ("/", "GET", [("client-app", "canary")], "shop-v2"),
        ("/", "POST", [("Client-App", "beta")], "shop-v2"),
        ("/", "GET", [("client-app", "canary2")], "shop"),
        ("/", "GET", [("client-app", "canary"), ("client-app", "beta")], "shop"),
        ("/new/a?b=c", "GET", [], "shop-v2"),
        ("/new/a", "PUT", [], "shop-v2"),
        ("/new/a", "POST", [], "shop"),
        ("/newer", "GET", [], "shop"),
    ]
    kept = world.connection(BUYER, SHOP)
    for path, method, headers, name in cases:
        assert f'"{name}"' in ask(kept, path, method, headers)[1], (path, method, headers)
    kept.close()


def test_grpc_by_method_and_metadata(world):
    put(world, split(STORE, {STORE2: 1}, match(r"/bookstore\.Bookstore/BuyBook", ["POST"], client_app="beta")))
    with grpc.insecure_channel(f"127.0.0.1:{world.outbound(BUYER, STORE)}") as buyer:
        assert call(buyer, BUY, [("client-app", "beta")])[1] == "bookstore-v2"
        assert call(buyer, BUY)[1] == call(buyer, LIST, [("client-app", "beta")])[1] == "bookstore"


def test_connections(world):
    """Bytes are split by connection; an open one stays with its backend."""
    put(world, split(TEXTS, {TEXTS: 50, TEXTS2: 50}))
    names = []
    for _ in range(300):
        with world.connect(BUYER, TEXTS) as connection:
            connection.sendall(b"x")
            names.append(connection.recv(100).decode().removeprefix("hello") or "texts-v2")
    got = shares(names)
    assert got["texts"] == pytest.approx(0.5, abs=0.15)
    assert got.keys() == {"texts", "texts-v2"}
    put(world, split(TEXTS, {TEXTS: 1, TEXTS2: 0}))
    with world.connect(BUYER, TEXTS) as connection:
        assert {speaks(connection) for _ in range(5)} == {"texts"}


def test_matches_say_nothing_of_bytes(world):
    put(world, split(TEXTS, {TEXTS2: 1}, match()))
    assert world.lets_connect(BUYER, TEXTS) == "texts"


def test_what_is_sealed_is_never_split(world):
    """An attested client has to know whom it will meet; a host must not choose it."""
    put(world, split(SEALED, {SEALED: 0, SEALED2: 100}))
    assert {world.lets_connect(BUYER, SEALED) for _ in range(10)} == {"sealed"}


def test_a_split_opens_nothing(world):
    put(world, split(SHOP, {SHOP: 1, SHOP2: 1}))
    assert {world.ask(THIEF, SHOP)[0] for _ in range(10)} == {403}
