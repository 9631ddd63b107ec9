"""The policy in Linkerd's words: one route decides about a request, so overlapping rules become routes of their own."""

from __future__ import annotations

import pytest
from export_policies import (
    BOOKSTORE,
    BUYER,
    EXACT,
    PATTERNS,
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
from istio_semantics import Call
from linkerd_semantics import linkerd_allows

from confidential_bookstore.errors import MeshError
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.model import Backend, MeshConfig, Split
from mesh.export.linkerd import export


def ask(exported, source, path=None, method="GET", *, port=8080, app="shop", namespace="shop", **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return linkerd_allows(exported.documents, Call(str(source), namespace, app, port, method, path, sent))


def kinds(exported, kind):
    return [document for document in exported.documents if document["kind"] == kind]


@settings(max_examples=400)
@given(random_documents(PATTERNS, ("bookbuyer", "book.*")), calls())
def test_never_allows_what_the_policy_denies(policy, asked):
    service, call = asked
    try:
        exported = export(policy)
    except MeshError:
        return
    if linkerd_allows(exported.documents, call):
        assert allowed(Policy(policy), service, call).allowed


@settings(max_examples=400)
@given(random_documents((*EXACT, ".*"), ("bookbuyer",)), calls())
def test_says_the_same_where_it_has_words(policy, asked):
    service, call = asked
    if call.port != service.port or ".." in (call.path or "") or "//" in (call.path or ""):
        return  # no other port is opened, and a path that is not in its normal form fits no exact one
    exported = export(policy)
    assert linkerd_allows(exported.documents, call) == allowed(Policy(policy), service, call).allowed


def test_overlapping_targets_add_up():
    """The case of osm#5297: who may call everything may also call what somebody else may call."""
    exported = export(
        documents(
            target("everything", SHOP, [BUYER], http(match())),
            target("some", SHOP, [THIEF], http(match("/books", "GET"))),
            target("others", SHOP, [BOOKSTORE], http(match(client_app="x"))),
        )
    )
    assert ask(exported, BUYER, "/books")
    assert ask(exported, THIEF, "/books")
    assert not ask(exported, BOOKSTORE, "/books")
    assert ask(exported, BOOKSTORE, "/books", client_app="x")
    assert ask(exported, THIEF, "/books", client_app="x")
    assert not ask(exported, THIEF, "/other", client_app="x")
    assert ask(exported, BUYER, "/other", client_app="x")


def test_nothing_granted_is_nothing_allowed():
    exported = export(documents())
    assert len(kinds(exported, "Server")) == len(SERVICES) - 1  # bookstore-v1 is the same pods as bookstore
    assert not ask(exported, BUYER, "/")
    assert not ask(exported, BUYER, "/", port=9999)
    assert not ask(exported, BUYER, "/", app="unknown")


def test_opaque_services_are_decided_by_connection():
    exported = export(
        documents(
            target("a", TEXTS, [BUYER], tcp(3306), http(match("/pages"))),
            target("b", TEXTS, [THIEF], tcp(9999)),
            target("c", BOOKSTORE, [BUYER], tcp(14001)),
        )
    )
    assert ask(exported, BUYER, port=3306, app="texts", namespace="bookstore")
    assert not ask(exported, THIEF, port=3306, app="texts", namespace="bookstore")
    assert not ask(exported, BUYER, f"/{STORE}/BuyBook", "POST", port=14001, app="bookstore", namespace="bookstore")
    assert ask(exported, BUYER, "/pages", app="texts", namespace="bookstore")
    assert not ask(exported, BUYER, "/secret", app="texts", namespace="bookstore")
    [service] = [d for d in kinds(exported, "Service") if d["metadata"]["name"] == "texts"]
    assert service["metadata"]["annotations"] == {"config.linkerd.io/opaque-ports": "3306"}


def test_a_path_that_only_looks_allowed_is_denied():
    """Linkerd does not normalise, so a route that took a prefix would let this through."""
    exported = export(documents(target("a", BOOKSTORE, [BUYER], http(match(f"/{STORE}/.*")))))
    assert ask(exported, BUYER, f"/{STORE}/BuyBook", "POST", port=14001, app="bookstore", namespace="bookstore")
    for path in (f"/{STORE}/../secret", f"/{STORE}/BuyBook/more", f"/{STORE}/..%2fsecret"):
        assert not ask(exported, BUYER, path, "POST", port=14001, app="bookstore", namespace="bookstore")


@pytest.mark.parametrize("pattern", ["/books/.*", ".*/new", "/a|/b", "/", "/a//b"])
def test_what_cannot_be_said_is_refused(pattern):
    with pytest.raises(MeshError) as refused:
        export(documents(target("a", SHOP, [BUYER], http(match(pattern)))))
    assert "shop/a" in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize("headers", [{"client_app": "a.*"}, {"client_app": ""}, {"host": "shop"}])
def test_headers_that_cannot_be_said_are_refused(headers):
    with pytest.raises(MeshError, match="header"):
        export(documents(target("a", SHOP, [BUYER], http(match(**headers)))))


def test_too_many_overlaps_are_refused():
    matches = [match(**{f"h{n}": "x"}, name=f"m{n}") for n in range(12)]
    with pytest.raises(MeshError, match="overlapping"):
        export(documents(target("a", SHOP, [BUYER], http(*matches))))


def test_permissive_mode_is_refused():
    with pytest.raises(MeshError, match="permissive"):
        export(documents(config=MeshConfig(permissive=True)))


def split(root, *backends, matches=()):
    return {root: Split(f"{root}-split", root, tuple(Backend(*b) for b in backends), matches, ORIGIN)}


ORIGIN = target("a", SHOP, [BUYER]).origin


def test_a_split_is_a_weighted_route_of_the_service():
    exported = export(documents(splits=split("shop/shop", ("shop/shop", 25), ("bookstore/bookstore", 75))))
    [route] = kinds(exported, "HTTPRoute")
    assert [(p["kind"], p["name"]) for p in route["spec"]["parentRefs"]] == [("Service", "shop")]
    assert [(b["name"], b["port"], b["weight"]) for b in route["spec"]["rules"][0]["backendRefs"]] == [
        ("shop", 8080, 25),
        ("bookstore", 14001, 75),
    ]


def test_a_split_of_some_requests_leaves_the_others_at_the_root():
    exported = export(documents(splits=split("shop/shop", ("bookstore/bookstore", 1), matches=(match("/b", "GET"),))))
    first, rest = kinds(exported, "HTTPRoute")[0]["spec"]["rules"]
    assert first["matches"] == [{"path": {"type": "Exact", "value": "/b"}, "method": "GET"}]
    assert [b["name"] for b in rest["backendRefs"]] == ["shop"]


def test_splits_that_cannot_be_said_are_refused():
    with pytest.raises(MeshError, match="split"):
        export(documents(splits=split("bookstore/texts", ("shop/shop", 1))))
    with pytest.raises(MeshError, match="pathRegex"):
        export(documents(splits=split("shop/shop", ("bookstore/bookstore", 1), matches=(match("/b.*"),))))
    sealed = export(documents(splits=split("bookstore/bookstore-sealed", ("bookstore/bookstore", 1))))
    assert kinds(sealed, "HTTPRoute") == []


def test_an_escaped_slash_is_the_known_difference():
    policy = documents(target("a", SHOP, [BUYER], http(match())))
    call = Call(str(BUYER), "shop", "shop", 8080, "GET", "/books%2Fsecret")
    assert allowed(Policy(policy), SERVICES["shop/shop"], call).rule == "malformed-path"
    exported = export(policy)
    assert linkerd_allows(exported.documents, call)
    assert any("%2F" in note for note in exported.notes)
