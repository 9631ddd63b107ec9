"""The policy in Istio's words: never wider than ours, and the same where Istio has words for it."""

from __future__ import annotations

import pytest
from export_policies import (
    BOOKSTORE,
    BUYER,
    PATTERNS,
    PLAIN,
    SERVICES,
    SHOP,
    STORE,
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
from istio_semantics import Call, istio_allows

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Backend, MeshConfig, Split
from mesh.export.istio import export

GROUP = http(
    match("/books-bought", "GET", name="bought", client_app="bookbuyer"), match("/buy-a-book/new", "GET", name="buy")
)
BUYERS = target("bookstore", SHOP, [BUYER], GROUP)


def ask(exported, source, path=None, method="GET", *, port=8080, app="shop", namespace="shop", **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return istio_allows(exported, Call(str(source), namespace, app, port, method, path, sent))


def kinds(exported, kind):
    return [document for document in exported.documents if document["kind"] == kind]


@settings(max_examples=400)
@given(random_documents(PATTERNS, ("bookbuyer", "book.*", "b+")), calls())
def test_never_allows_what_the_policy_denies(policy, asked):
    service, call = asked
    try:
        exported = export(policy)
    except MeshError:
        return
    if istio_allows(exported.documents, call):
        assert allowed(Policy(policy), service, call).allowed


@settings(max_examples=400)
@given(random_documents(PLAIN, ("bookbuyer", "book.*", ".*buyer")), calls())
def test_says_the_same_where_it_has_words(policy, asked):
    service, call = asked
    if call.port != service.port:
        return  # no other is opened
    exported = export(policy)
    assert istio_allows(exported.documents, call) == allowed(Policy(policy), service, call).allowed


def test_from_to_and_when_stand_in_one_rule():
    exported = export(documents(BUYERS)).documents
    assert ask(exported, BUYER, "/books-bought", client_app="bookbuyer")
    assert not ask(exported, THIEF, "/books-bought", client_app="bookbuyer")
    assert not ask(exported, BUYER, "/books-bought", client_app="somebody")
    assert ask(exported, BUYER, "/buy-a-book/new")
    assert not ask(exported, BUYER, "/buy-a-book/new", method="POST")


def test_the_published_translation_lets_the_thief_in():
    """Its `when` is a rule of its own, so two headers that anybody can send are enough."""
    [ours] = [
        each
        for each in kinds(export(documents(BUYERS)), "AuthorizationPolicy")
        if each["metadata"]["name"] == "shop-access"
    ]
    rule = ours["spec"]["rules"][0]
    published = {
        **ours,
        "spec": {
            **ours["spec"],
            "rules": [
                {
                    "from": [{"source": {"namespaces": ["bookbuyer"]}}, *rule["from"]],
                    "to": rule["to"],
                },
                {"when": rule["when"]},
            ],
        },
    }
    assert ask([published], THIEF, "/books-bought", client_app="bookbuyer")
    assert ask([published], THIEF, "/anything", client_app="bookbuyer")
    assert not ask([ours], THIEF, "/books-bought", client_app="bookbuyer")
    assert not ask([ours], THIEF, "/anything", client_app="bookbuyer")


def test_nothing_granted_is_nothing_allowed():
    """Without any ALLOW policy Istio allows everything, so there is one for each namespace and each workload."""
    exported = export(documents())
    names = {(d["metadata"]["namespace"], d["metadata"]["name"]) for d in kinds(exported, "AuthorizationPolicy")}
    assert names == {
        ("bookstore", "deny-by-default"),
        ("shop", "deny-by-default"),
        ("bookstore", "bookstore-access"),
        ("bookstore", "bookstore-sealed-access"),
        ("bookstore", "texts-access"),
        ("bookstore", "texts-pages-access"),
        ("shop", "shop-access"),
    }
    assert not ask(exported.documents, BUYER, "/books-bought")
    assert not ask(exported.documents, BUYER, "/x", app="unknown")
    assert ask([d for d in exported.documents if d["kind"] != "AuthorizationPolicy"], THIEF, "/books-bought")


def test_mutual_tls_is_required_in_every_namespace():
    exported = kinds(export(documents()), "PeerAuthentication")
    assert [(d["metadata"]["namespace"], d["spec"]) for d in exported] == [
        ("bookstore", {"mtls": {"mode": "STRICT"}}),
        ("shop", {"mtls": {"mode": "STRICT"}}),
    ]


def test_a_tcp_route_grants_connections_only_where_bytes_are_seen():
    exported = export(
        documents(
            target("a", TEXTS, [BUYER], tcp(), http(match("/pages"))),
            target("b", BOOKSTORE, [BUYER], tcp(14001)),
            target("c", SERVICES["bookstore/bookstore-sealed"].account, [BUYER], tcp(), http(match())),
        )
    ).documents
    assert ask(exported, BUYER, port=3306, app="texts", namespace="bookstore")
    assert not ask(exported, BUYER, port=9999, app="texts", namespace="bookstore")
    assert not ask(exported, THIEF, port=3306, app="texts", namespace="bookstore")
    assert not ask(exported, BUYER, "/secret", app="texts", namespace="bookstore")
    assert ask(exported, BUYER, "/pages", app="texts", namespace="bookstore")
    assert not ask(exported, BUYER, f"/{STORE}/BuyBook", "POST", port=14001, app="bookstore", namespace="bookstore")
    assert ask(exported, BUYER, port=14001, app="sealed", namespace="bookstore")


def test_a_pattern_of_a_known_grpc_service_becomes_its_methods():
    policy = documents(target("a", BOOKSTORE, [BUYER], http(match(rf"/{STORE}/(BuyBook|Get.*)"))))
    exported = export(policy)
    [operation] = [
        rule["to"][0]["operation"]
        for d in kinds(exported, "AuthorizationPolicy")
        for rule in d["spec"].get("rules", [])
    ]
    assert operation["paths"] == [f"/{STORE}/{method}" for method in ("GetBook", "BuyBook", "GetSales")]
    assert any("matches 3 of them" in note for note in exported.notes)


@pytest.mark.parametrize("pattern", [".*a-book.*new", "/books?", "(?i)/books", r"/a\*", r"/\{x\}", "/a//b", "/a|/b"])
def test_what_cannot_be_said_is_refused(pattern):
    with pytest.raises(MeshError) as refused:
        export(documents(target("a", SHOP, [BUYER], http(match(pattern)))))
    assert "shop/a" in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("headers", [{"client_app": "a|b"}, {"client_app": ""}, {"host": "shop"}])
def test_headers_that_cannot_be_said_are_refused(headers):
    with pytest.raises(MeshError, match="header"):
        export(documents(target("a", SHOP, [BUYER], http(match(**headers)))))


def test_permissive_mode_is_refused():
    with pytest.raises(MeshError, match="permissive"):
        export(documents(BUYERS, config=MeshConfig(permissive=True)))


def test_an_escaped_slash_is_the_known_difference():
    policy = documents(target("a", SHOP, [BUYER], http(match("/books/.*"))))
    exported = export(policy)
    call = Call(str(BUYER), "shop", "shop", 8080, "GET", "/books/..%2Fsecret")
    assert allowed(Policy(policy), SERVICES["shop/shop"], call).rule == "malformed-path"
    assert istio_allows(exported.documents, call)
    assert any("%2F" in note for note in exported.notes)


def split(root, *backends, matches=()):
    return {root: Split(f"{root}-split", root, tuple(Backend(*b) for b in backends), matches, BUYERS.origin)}


def test_a_split_is_a_virtual_service():
    exported = export(documents(splits=split("shop/shop", ("shop/shop", 25), ("bookstore/bookstore", 75))))
    [found] = kinds(exported, "VirtualService")
    assert found["spec"]["hosts"] == ["shop.shop.svc.cluster.local"]
    assert [(way["destination"]["host"], way["weight"]) for way in found["spec"]["http"][0]["route"]] == [
        ("shop.shop.svc.cluster.local", 25),
        ("bookstore.bookstore.svc.cluster.local", 75),
    ]


def test_a_split_of_some_requests_leaves_the_others_at_the_root():
    condition = match("/b.*", "GET", beta="yes|y")
    exported = export(documents(splits=split("shop/shop", ("bookstore/bookstore", 1), matches=(condition,))))
    [found] = kinds(exported, "VirtualService")
    first, rest = found["spec"]["http"]
    assert first["match"] == [
        {"uri": {"regex": "/b.*"}, "method": {"regex": "GET"}, "headers": {"beta": {"regex": "yes|y"}}}
    ]
    assert rest == {"route": [{"destination": {"host": "shop.shop.svc.cluster.local", "port": {"number": 8080}}}]}


def test_a_split_of_connections_and_a_sealed_one():
    exported = export(documents(splits=split("bookstore/texts", ("shop/shop", 1))))
    assert list(kinds(exported, "VirtualService")[0]["spec"]) == ["hosts", "tcp"]
    sealed = export(documents(splits=split("bookstore/bookstore-sealed", ("bookstore/bookstore", 1))))
    assert kinds(sealed, "VirtualService") == []
    assert any("weights of the manifest" in note for note in sealed.notes)


def test_services_say_what_a_sidecar_sees():
    ports = {d["metadata"]["name"]: d["spec"]["ports"][0] for d in kinds(export(documents()), "Service")}
    assert {name: port["appProtocol"] for name, port in ports.items()} == {
        "bookstore": "grpc",
        "bookstore-sealed": "tcp",
        "bookstore-v1": "grpc",
        "shop": "http",
        "texts": "tcp",
        "texts-pages": "http",
    }


def test_a_target_whose_destination_nobody_runs_as_is_said():
    exported = export(documents(target("a", THIEF, [BUYER], http(match()))))
    assert any("TrafficTarget bookthief/a is left out" in note for note in exported.notes)
