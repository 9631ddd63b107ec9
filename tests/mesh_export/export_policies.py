"""Policies for the tests of exports: the bookstore's, and random ones."""

from __future__ import annotations

from hypothesis import strategies as st
from istio_semantics import Call

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import (
    Account,
    Documents,
    HttpRule,
    Origin,
    Protocol,
    Service,
    Target,
    TcpRule,
)

ORIGIN = Origin("access.yaml", 1, "TrafficTarget")
STORE = "confidential_bookstore.api.bookstore.v1.BookstoreService"
BUYER, THIEF = Account("bookbuyer", "bookbuyer"), Account("bookthief", "bookthief")
BOOKSTORE, SHOP, TEXTS = Account("bookstore", "bookstore"), Account("shop", "shop"), Account("texts", "bookstore")
SOURCES = (BUYER, THIEF, BOOKSTORE)
SERVICES = {
    service.key: service
    for service in (
        Service("bookstore", "bookstore", BOOKSTORE, 14001, Protocol.GRPC, "bookstore", grpc_services=(STORE,)),
        Service(
            "bookstore-sealed", "bookstore", Account("sealed", "bookstore"), 14001, Protocol.GRPC, "x", sealed=True
        ),
        Service("bookstore-v1", "bookstore", BOOKSTORE, 14001, Protocol.GRPC, "bookstore"),
        Service("shop", "shop", SHOP, 8080, Protocol.HTTP),
        Service("texts-pages", "bookstore", TEXTS, 8080, Protocol.HTTP),
        Service("texts", "bookstore", TEXTS, 3306, Protocol.TCP),
    )
}
# Sorted by whether every mesh can say them.
EXACT = ("/books-bought", rf"/{STORE}/BuyBook".replace(".", r"\."), rf"/{STORE}/ListBooks".replace(".", "[.]"))
PLAIN = (*EXACT, "/buy.*", ".*/new", ".*", "^/books-bought$", "/buy-a-book/new")
PATTERNS = (
    *PLAIN,
    ".*a-book.*new",
    rf"/{STORE}/(BuyBook|GetBook)",
    f"/{STORE}/.*",
    "/books?",
    "(?i)/BOOKS",
    r"/a\*",
    "/a//b",
)
PATHS = (
    "/",
    "/books-bought",
    "/books-bought/1",
    "/buy-a-book/new",
    "/buy-a-book/../books-bought",
    "/buy-a-book//new",
    "/books",
    "/a*",
    "/a//b",
    *(f"/{STORE}/{method}" for method in ("BuyBook", "ListBooks", "GetBook", "WatchSales")),
    f"/{STORE}/BuyBook/more",
    f"/{STORE}/Unknown",
)


def http(*matches, group="g"):
    return HttpRule(group, matches, ORIGIN)


def tcp(*ports):
    return TcpRule("t", frozenset(ports), ORIGIN)


def target(name, destination, sources, *rules):
    return Target(f"{destination.namespace}/{name}", destination, tuple(sources), rules, ORIGIN)


def documents(*targets, **more):
    return Documents(SERVICES, {each.name: each for each in targets}, **more)


def match(path=None, *methods, name="m", **headers):
    """Headers: `client_app="pattern"`."""
    patterns = tuple((key.replace("_", "-"), Pattern(value)) for key, value in headers.items())
    return Match(name, None if path is None else Pattern(path), frozenset(methods), patterns)


def random_documents(patterns, header_patterns):
    matches = st.builds(
        lambda path, methods, header: match(path, *methods, **({"client_app": header} if header else {})),
        st.sampled_from((None, *patterns)),
        st.sets(st.sampled_from(("GET", "POST")), max_size=2),
        st.sampled_from(("", "", *header_patterns)),
    )
    rules = st.one_of(
        st.lists(matches, min_size=1, max_size=3).map(lambda found: http(*found)),
        st.sets(st.sampled_from((14001, 8080, 3306)), max_size=2).map(lambda ports: tcp(*ports)),
    )
    made = st.builds(
        lambda destination, sources, found: (destination, sources, found),
        st.sampled_from([service.account for service in SERVICES.values()]),
        st.sets(st.sampled_from(SOURCES), min_size=1),
        st.lists(rules, min_size=1, max_size=2),
    )
    return st.lists(made, max_size=5).map(
        lambda all_of_them: documents(
            *(target(f"t{n}", d, sorted(s), *found) for n, (d, s, found) in enumerate(all_of_them))
        )
    )


def calls():
    """Any source at any service: a connection or a request, as the service's protocol has it."""

    def made(service, source, port, *, method, path, header):
        headers = {} if header is None else {"client-app": header}
        call = Call(str(source), service.namespace, service.account.name, port or service.port, method, path, headers)
        there = [each for each in SERVICES.values() if (each.account, each.port) == (service.account, call.port)]
        if any(each.seen_as is Protocol.TCP for each in (service, *there)):
            return service, Call(call.source, call.namespace, call.app, call.port)
        return service, call

    return st.builds(
        made,
        st.sampled_from(list(SERVICES.values())),
        st.sampled_from(SOURCES),
        st.sampled_from((0, 0, 3306, 9999)),
        method=st.sampled_from(("GET", "POST", "PUT")),
        path=st.sampled_from(PATHS),
        header=st.sampled_from((None, "bookbuyer", "bookbuyer2", "", "xbookbuyer")),
    )


def allowed(policy, service, call):
    """What the policy says."""
    source = Account(call.source_name, call.source_namespace)
    method = None if call.path is None else call.method
    return policy.allow(source, service.account, call.port, method, call.path or "", call.headers)
