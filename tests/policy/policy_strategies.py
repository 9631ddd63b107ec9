"""Random policies and requests, for every test that compares two enforcers.

Names are few and alike, so that rules overlap and a request has a fair chance of fitting one. What is generated is what
the reader of SMI documents would let through: every target has sources and rules, and no source is the destination.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st

from confidential_bookstore.policy.match import Match
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import (
    Account,
    Backend,
    Documents,
    HttpRule,
    MeshConfig,
    Origin,
    Protocol,
    Service,
    Split,
    Target,
    TcpRule,
)

STORE = "/shop.v1.BookstoreService"
GRPC_PATHS = (f"{STORE}/BuyBook", f"{STORE}/GetBook", f"{STORE}/ListBooks", "/shop.v1.Other/BuyBook")
ACCOUNTS = tuple(Account(name, name) for name in ("bookbuyer", "bookthief", "bookstore", "bookwarehouse"))
ACCOUNTS += (Account("bookstore-v2", "bookstore"),)
PORTS = (14001, 14002)
# Of marbles that speak gRPC, all alike: what they speak and whether they are sealed is the compiler's business.
SERVICES = {
    service.key: service
    for service in (
        Service(each.name, each.namespace, each, PORTS[0], Protocol.GRPC, each.name, origin=Origin("s.yaml", 1, "s"))
        for each in ACCOUNTS
    )
}
METHODS = ("GET", "POST", "PUT")
PATTERNS = (
    r"/shop\.v1\.BookstoreService/BuyBook",
    r"/shop\.v1\.BookstoreService/.*",
    r"/shop.v1.BookstoreService/(Get|List)Books?",
    r"(?i)/SHOP\.V1\.[a-z]+/buybook",
    r"/shop\.v1\.[^/]+/BuyBook",
    r".*BuyBook",
    r"/books-bought",
    r"/buy-a-book/new|/books",
    r"/.*/new",
    r"/",
    r"",
    r"^/books$",
    r"/a*b+c?",
    r".*",
)
HEADER_PATTERNS = ("bookbuyer", "book.*", "", ".+", "a,b", "[a-z]+(,[a-z]+)?", "(?i)BOOKBUYER")
HEADERS = ("client-app", "x-shop")
VALUES = ("bookbuyer", "bookthief", "", "a", "a,b", "BookBuyer")
PLAIN_PATHS = (*GRPC_PATHS, "/", "/books", "/books-bought", "/books-bought/1", "/buy-a-book/new", "/aab", "/abc", "/b")
_PIECES = ("a", "b", "new", ".", "..", "...", "", "%2e", "%2E%2e", ".%2e", "%41", "%7e", "%2f", "%5C", "\\", "%", "%zz")
_PIECES += (
    "%00",
    "%20",
    "%25",
    "%252e",
    ";x",
    "a;b",
    "..;",
    "a:b",
    "@",
    "~",
    "*",
    "'()",
    "$&+,=!",
    "|",
    "^",
    "{}",
    '"',
    "<",
)

accounts = st.sampled_from(ACCOUNTS)
patterns = st.builds(Pattern, st.sampled_from(PATTERNS))
methods = st.sampled_from(METHODS)
header_values = st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(VALUES))


@dataclass(frozen=True)
class Request:
    """What is asked: a connection if `method` is None."""

    source: Account
    destination: Account
    port: int = PORTS[0]
    method: str | None = None
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def odd_paths() -> st.SearchStrategy[str]:
    """Paths in every spelling: dots, slashes, escapes, well-formed or not; with and without a query."""
    joined = st.builds("".join, st.lists(st.sampled_from((*_PIECES, "/", "/", "/")), max_size=8))
    return st.builds(
        "{}{}{}".format, st.sampled_from(("/", "/", "/", "", "//")), joined, st.sampled_from(("", "", "?x", "?/../%2f"))
    )


paths = st.sampled_from(PLAIN_PATHS) | odd_paths()


@st.composite
def matches(draw: st.DrawFn) -> Match:
    """A match, of which each part may be left out."""
    headers = draw(st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(HEADER_PATTERNS), max_size=2))
    return Match(
        name=draw(st.sampled_from(("m", "n"))),
        path=draw(st.none() | patterns),
        methods=draw(st.just(frozenset()) | st.frozensets(methods, min_size=1)),
        headers=tuple((name, Pattern(text)) for name, text in sorted(headers.items())),
    )


http_rules = st.builds(
    HttpRule,
    group=st.just("ns/group"),
    matches=st.lists(matches(), min_size=1, max_size=3).map(tuple),
    origin=st.builds(Origin, st.just("access.yaml"), st.integers(1, 99), st.just("HTTPRouteGroup ns/group")),
)
tcp_rules = st.builds(
    TcpRule,
    route=st.just("ns/route"),
    ports=st.frozensets(st.sampled_from(PORTS)),
    origin=st.builds(Origin, st.just("access.yaml"), st.integers(1, 99), st.just("TCPRoute ns/route")),
)


@st.composite
def targets(draw: st.DrawFn, name: str | None = None) -> Target:
    """A target with at least one source and one rule."""
    destination = draw(accounts)
    sources = st.sampled_from([each for each in ACCOUNTS if each != destination])
    name = name or f"{destination.namespace}/{draw(st.sampled_from('abcdefgh'))}"
    return Target(
        name=name,
        destination=destination,
        sources=tuple(draw(st.lists(sources, min_size=1, max_size=3, unique=True))),
        rules=tuple(draw(st.lists(http_rules | tcp_rules, min_size=1, max_size=3))),
        origin=Origin("access.yaml", draw(st.integers(1, 99)), f"TrafficTarget {name}"),
    )


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """A split of one service between two others."""
    root, *backends = draw(st.lists(st.sampled_from(sorted(SERVICES)), min_size=2, max_size=3, unique=True))
    weights = draw(st.lists(st.integers(0, 100), min_size=len(backends), max_size=len(backends)).filter(any))
    return Split(
        name="ns/split",
        root=root,
        backends=tuple(Backend(service, weight) for service, weight in zip(backends, weights, strict=True)),
        matches=tuple(draw(st.just([]) | st.lists(matches(), max_size=2))),
        origin=Origin("split.yaml", 1, "TrafficSplit ns/split"),
    )


@st.composite
def documents(draw: st.DrawFn, *, permissive: st.SearchStrategy[bool] = st.booleans()) -> Documents:  # noqa: B008
    """A whole folder of policy. Permissive one time in two, unless told otherwise."""
    found = draw(st.lists(targets(), max_size=6))
    split = draw(st.none() | splits())
    return Documents(
        services=SERVICES,
        targets={each.name: each for each in found},
        splits={split.root: split} if split else {},
        config=MeshConfig(permissive=draw(permissive)),
    )


connections = st.builds(Request, accounts, accounts, st.sampled_from((*PORTS, 3306)))
http_requests = st.builds(Request, accounts, accounts, st.just(PORTS[0]), methods, paths, header_values)
grpc_requests = st.builds(
    Request, accounts, accounts, st.just(PORTS[0]), st.just("POST"), st.sampled_from(GRPC_PATHS), header_values
)
requests = connections | http_requests | grpc_requests
