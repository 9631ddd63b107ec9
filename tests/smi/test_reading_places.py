"""Where a mistake is said to be, in documents in block style. Nobody else is blamed for it."""

from __future__ import annotations

import pytest
from smi_texts import CONFIG, DOCUMENTS, GROUP, ROUTE, SERVICES, SPLIT, TARGET, texts

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.smi.reading import check_texts, read_texts

_SERVICE = (
    "---\napiVersion: mesh.confidential-bookstore/v1alpha1\nkind: MeshService\n"
    "metadata: {name: x, namespace: shop}\nspec: {serviceAccount: x, port: 1, appProtocol: tcp}\n"
)
_SOURCES = TARGET[TARGET.index("  sources:") : TARGET.index("  rules:")]
_RULES = TARGET[TARGET.index("  rules:") :]
_ONE = "TrafficTarget shop/target"
_HTTP = "HTTPRouteGroup shop/routes"
_TCP = "TCPRoute shop/port"
_WEIGHTS = "TrafficSplit shop/split"
_MESH = "MeshConfig osm-system/osm-mesh-config"

# file, what is replaced, by what; line, document, field, words of the message
MISTAKES = [
    # what every document has
    ("group", "kind: HTTPRouteGroup", "kind: HTTPRouteGrup", 2, "HTTPRouteGrup shop/routes", "kind", "HTTPRouteGrup"),
    ("route", "kind: TCPRoute", "kind: UDPRoute", 2, "UDPRoute shop/port", "kind", "is no kind of policy"),
    ("group", "kind: HTTPRouteGroup", "kind: List", 2, "List shop/routes", "kind", "a List is not taken"),
    ("group", "kind: HTTPRouteGroup", "kind: 5", 2, "5 shop/routes", "kind", "expected a text"),
    ("target", "v1alpha3", "v1alpha2", 1, _ONE, "apiVersion", "expected access.smi-spec.io/v1alpha3"),
    ("group", "v1alpha4", "v1alpha3", 1, _HTTP, "apiVersion", "is no version of HTTPRouteGroup"),
    ("split", "v1alpha4", "v1alpha1", 1, _WEIGHTS, "apiVersion", "is no version of TrafficSplit"),
    ("config", "v1alpha2", "v1", 1, _MESH, "apiVersion", "is no version of MeshConfig"),
    ("target", "kind: TrafficTarget\n", "", 1, "shop/target", "", "kind is missing"),
    ("target", "apiVersion: access.smi-spec.io/v1alpha3\n", "", 1, _ONE, "", "apiVersion is missing"),
    ("target", "  name: target\n", "", 4, "TrafficTarget shop", "metadata", "name is missing"),
    (
        "target",
        "  name: target\n",
        "  name: The_Target\n",
        4,
        "TrafficTarget shop/The_Target",
        "metadata.name",
        "no name",
    ),
    ("target", "  name: target\n", "  name: 7\n", 4, "TrafficTarget shop/7", "metadata.name", "expected a text"),
    (
        "target",
        "namespace: shop\nspec",
        "namespace: -shop\nspec",
        5,
        "TrafficTarget -shop/target",
        "metadata.namespace",
        "name",
    ),
    ("target", "spec:\n", "spec:\n  ports: [1]\n", 7, _ONE, "spec.ports", "unknown field"),
    ("target", "spec:\n", "status: {}\nspec:\n", 6, _ONE, "status", "unknown field"),
    ("target", "spec:\n", "kind: TrafficTarget\nspec:\n", 6, _ONE, "kind", "stands there twice"),
    ("target", "metadata:\n", "metadata:\n  lables:\n    a: b\n", 4, _ONE, "metadata.lables", "unknown field"),
    ("target", "metadata:\n", "metadata:\n  labels: {a: 1}\n", 4, _ONE, "metadata.labels.a", "expected a text"),
    ("target", "spec:\n", "1: 2\nspec:\n", 6, _ONE, "", "a name that is no text"),
    # YAML
    ("target", "sources:", "sources: &some", 11, "", "", "anchors and aliases are not taken"),
    ("target", "name: buyer", "name: *some", 13, "", "", "anchors and aliases are not taken"),
    ("target", "name: buyer", "name: !secret buyer", 13, "", "", "tags are not taken"),
    ("target", "  sources:", "\tsources:", 11, "", "", "not YAML"),
    ("target", "matches: [buy]", "matches: [buy", 19, "", "", "not YAML"),
    ("target", "matches: [buy]", "matches: [b\0y]", None, "", "", "not YAML"),
    # TrafficTarget
    ("target", _SOURCES, "  sources: []\n", 11, _ONE, "spec.sources", "is empty"),
    ("target", _SOURCES, "", 7, _ONE, "spec", "sources is missing"),
    ("target", _SOURCES, "  sources:\n", 11, _ONE, "spec.sources", "expected a list"),
    ("target", _RULES, "  rules: []\n", 15, _ONE, "spec.rules", "is empty"),
    ("target", _RULES, "", 7, _ONE, "spec", "rules is missing"),
    (
        "target",
        "  - kind: ServiceAccount",
        "  - kind: Group",
        12,
        _ONE,
        "spec.sources[0].kind",
        "expected ServiceAccount",
    ),
    (
        "target",
        "    kind: ServiceAccount",
        "    kind: User",
        8,
        _ONE,
        "spec.destination.kind",
        "expected ServiceAccount",
    ),
    ("target", "    name: buyer\n", "    nam: buyer\n", 13, _ONE, "spec.sources[0].nam", "unknown field"),
    (
        "target",
        "    name: buyer\n",
        "    name: bayer\n",
        12,
        _ONE,
        "spec.sources[0]",
        "no service runs as this account",
    ),
    ("target", "    name: store\n", "    name: stor\n", 8, _ONE, "spec.destination", "no service runs as this account"),
    (
        "target",
        "    namespace: shop\n  sources",
        "    namespace: web\n  sources",
        8,
        _ONE,
        "spec.destination",
        "another namespace",
    ),
    ("target", _SOURCES, _SOURCES + _SOURCES.partition("\n")[2], 15, _ONE, "spec.sources[1]", "stands there twice"),
    ("target", "kind: HTTPRouteGroup", "kind: UDPRoute", 16, _ONE, "spec.rules[0].kind", "not enforced by anybody"),
    ("target", "kind: HTTPRouteGroup", "kind: HttpRoute", 16, _ONE, "spec.rules[0].kind", "is no kind of rule"),
    ("target", "name: routes", "name: routs", 17, _ONE, "spec.rules[0].name", "there is no such HTTPRouteGroup"),
    ("target", "name: port", "name: routes", 20, _ONE, "spec.rules[1].name", "there is no such TCPRoute"),
    ("target", "matches: [buy]", "matches: []", 18, _ONE, "spec.rules[0].matches", "is empty"),
    ("target", "matches: [buy]", "matches: [list, bye]", 18, _ONE, "spec.rules[0].matches[1]", "has no such match"),
    ("target", "matches: [buy]", "matches: [buy, buy]", 18, _ONE, "spec.rules[0].matches[1]", "stands there twice"),
    ("target", "matches: [buy]", "matches: buy", 18, _ONE, "spec.rules[0].matches", "expected a list"),
    (
        "target",
        "    name: port\n",
        "    name: port\n    matches: [buy]\n",
        21,
        _ONE,
        "spec.rules[1].matches",
        "TCPRoute has no",
    ),
    # HTTPRouteGroup
    ("group", "  - name: buy\n    pathRegex", "  - pathRegex", 8, _HTTP, "spec.matches[0]", "name is missing"),
    ("group", "- name: list", "- name: buy", 13, _HTTP, "spec.matches[1].name", "another match has this name"),
    ("group", "- name: list", "- name: ''", 13, _HTTP, "spec.matches[1].name", "is no name"),
    ("group", "Store/Buy", "Store/(Buy", 9, _HTTP, "spec.matches[0].pathRegex", "missing )"),
    ("group", "Store/Buy", "Store/(?=Buy)", 9, _HTTP, "spec.matches[0].pathRegex", "invalid perl operator"),
    ("group", "Store/Buy", r"(a)\1", 9, _HTTP, "spec.matches[0].pathRegex", "invalid escape sequence"),
    ("group", "Store/Buy", "(a{900}){900}", 9, _HTTP, "spec.matches[0].pathRegex", "invalid repetition size"),
    ("group", "Store/Buy", "a{999}", 9, _HTTP, "spec.matches[0].pathRegex", "the pattern is too large"),
    (
        "group",
        "pathRegex: /pkg\\.Store/List",
        "pathRegexp: /",
        14,
        _HTTP,
        "spec.matches[1].pathRegexp",
        "unknown field",
    ),
    ("group", "[POST]", "[POST, LIST]", 10, _HTTP, "spec.matches[0].methods[1]", "is not known"),
    (
        "group",
        "    - client-app: buyer",
        "      client-app: buyer",
        12,
        _HTTP,
        "spec.matches[0].headers",
        "- name: pattern",
    ),
    ("group", "client-app: buyer", "a: b\n      c: d", 12, _HTTP, "spec.matches[0].headers[0]", "got 2 entries"),
    ("group", "client-app: buyer", "a: b\n    - A: c", 13, _HTTP, "spec.matches[0].headers[1].A", "another entry"),
    # TCPRoute
    ("route", "  matches:\n    ports: [14001]", "  matches: {}", 7, _TCP, "spec.matches", "ports is missing"),
    ("route", "[14001]", "[0x36B1]", 8, _TCP, "spec.matches.ports[0]", "expected a whole number"),
    ("route", "[14001]", "\n    - 14001\n    - 14001", 10, _TCP, "spec.matches.ports[1]", "stands there twice"),
    # TrafficSplit
    ("split", "  service: store\n", "", 7, _WEIGHTS, "spec", "service is missing"),
    ("split", "- service: store-v1", "- service: store", 12, _WEIGHTS, "spec.backends[0].service", "refers to itself"),
    (
        "split",
        "- service: store-v1",
        "- service: store-v2",
        14,
        _WEIGHTS,
        "spec.backends[1].service",
        "stands there twice",
    ),
    ("split", "store-v2.shop", "store-v2.shop.com", 14, _WEIGHTS, "spec.backends[1].service", "no name of a service"),
    ("split", "v1\n    weight: 50", "v1\n    weight: 0.5", 13, _WEIGHTS, "spec.backends[0].weight", "a whole number"),
    ("split", "weight: 50", "weight: 0", 12, _WEIGHTS, "spec.backends", "all weights are 0"),
    ("split", "v1alpha4", "v1alpha3", 8, _WEIGHTS, "spec.matches", "unknown field"),
    ("split", "name: routes", "name: route", 10, _WEIGHTS, "spec.matches[0].name", "there is no such HTTPRouteGroup"),
    # MeshConfig
    ("config", "spec:\n", "spec:\n  sidecar: {logLevel: debug}\n", 7, _MESH, "spec.sidecar", "this mesh does not"),
    (
        "config",
        "  traffic:\n",
        "  traffic:\n    outboundPortExclusionList: [1]\n",
        8,
        _MESH,
        "spec.traffic.outboundPortExclusionList",
        "OSM has this",
    ),
    ("config", "enableEgress", "enableEgres", 9, _MESH, "spec.traffic.enableEgres", "unknown field"),
    ("config", "Egress: false", "Egress: no", 9, _MESH, "spec.traffic.enableEgress", "expected true or false"),
    ("config", "Egress: false", "Egress: 'false'", 9, _MESH, "spec.traffic.enableEgress", "expected true or false"),
]


def check(folder, where, field, words):
    found = check_texts(folder)
    assert [(error.where, error.field) for error in found][:1] == [(where, field)], [str(error) for error in found]
    assert words in str(found[0])
    assert str(found[0]).startswith(where)
    with pytest.raises(PolicyError) as caught:
        read_texts(folder)
    assert str(caught.value) == str(found[0])
    return found


@pytest.mark.parametrize(
    ("name", "old", "new", "line", "document", "field", "words"),
    MISTAKES,
    ids=[f"{m[0]}:{m[5]}:{m[6]}" for m in MISTAKES],
)
def test_one_mistake(name, old, new, line, document, field, words):  # noqa: PLR0917 - a row of the table
    text = DOCUMENTS[name]
    assert old in text, "the test itself is wrong"
    count = -1 if (name, old) == ("split", "weight: 50") else 1
    folder = texts(**{name: text.replace(old, new, count)})
    place = f"{name}.yaml" + (f":{line}" if line else "") + (f": {document}" if document else "")
    if name == "group" and not field.startswith("spec"):  # the target and the split miss it, too
        assert place in {error.where for error in check_texts(folder)}
    found = check(folder, place, field, words)
    others = {"group": {"target.yaml", "split.yaml"}, "route": {"target.yaml"}}.get(name, set())
    assert {error.where.partition(":")[0] for error in found[1:]} <= others  # nobody else is blamed for it


def among(text: str, namespace: str, *changes: tuple[str, str]) -> str:
    """A document in another namespace."""
    for old, new in (("  namespace: shop\nspec", f"  namespace: {namespace}\nspec"), *changes):
        assert old in text, "the test itself is wrong"
        text = text.replace(old, new)
    return text


_TO_DB = ("name: store\n    namespace: shop", "name: db\n    namespace: data")
_DB2 = ("name: x, namespace: shop", "name: db2, namespace: data")
_V2 = "  - service: store-v2.shop\n    weight: 50\n"
_MORE = SPLIT.replace("name: split", "name: more")
_NESTED = _MORE.replace("service: store\n", "service: store-v2\n").replace("store-v2.shop", "store")

BETWEEN_DOCUMENTS = [
    ({"z.yaml": TARGET}, "z.yaml:4: TrafficTarget shop/target", "metadata.name", "another document of this kind"),
    ({"z.yaml": GROUP}, "z.yaml:4: HTTPRouteGroup shop/routes", "metadata.name", "another document of this kind"),
    ({"z.yaml": SERVICES.partition("---")[0]}, "z.yaml:3: MeshService shop/buyer", "metadata.name", "another document"),
    ({"z.yaml": _MORE}, "z.yaml:7: TrafficSplit shop/more", "spec.service", "this service is split already"),
    ({"z.yaml": _NESTED}, "split.yaml:14: TrafficSplit shop/split", "spec.backends[1].service", "splits do not nest"),
    (
        {"z.yaml": CONFIG.replace("name: osm", "name: other")},
        "z.yaml:1: MeshConfig osm-system/other-mesh-config",
        "",
        "there is another MeshConfig",
    ),
    (
        {"route.yaml": ROUTE.replace("14001", "3306")},
        "target.yaml:20: TrafficTarget shop/target",
        "spec.rules[1].name",
        "a port that no service of store.shop has",
    ),
    (
        {
            "z.yaml": "---\n" + among(TARGET, "data", _TO_DB),
            "g.yaml": among(GROUP, "data"),
            "r.yaml": among(ROUTE, "data", ("14001", "3306")),
        },
        "z.yaml:17: TrafficTarget data/target",
        "spec.rules[0]",
        "data/db does not speak HTTP",
    ),
    (
        {
            "z.yaml": among(SPLIT, "data", ("service: store\n", "service: db\n"), ("store-v1", "db2"), (_V2, "")),
            "g.yaml": among(GROUP, "data"),
            "s.yaml": _SERVICE.replace(*_DB2).replace("port: 1", "port: 3306"),
        },
        "z.yaml:10: TrafficSplit data/split",
        "spec.matches[0].name",
        "requests cannot be told apart",
    ),
]


@pytest.mark.parametrize(("more", "where", "field", "words"), BETWEEN_DOCUMENTS)
def test_documents_that_do_not_go_together(more, where, field, words):
    check(texts() | more, where, field, words)


def test_a_near_miss_is_named():
    for change, meant in (
        ({"target": TARGET.replace("[buy]", "[bay]")}, "buy"),
        ({"target": TARGET.replace("name: routes", "name: route")}, "shop/routes"),
        ({"target": TARGET.replace("  sources:", "  source:")}, "sources"),
        ({"target": TARGET.replace("kind: TrafficTarget", "kind: TrafficTargets")}, "TrafficTarget"),
        ({"split": SPLIT.replace("service: store-v1", "service: store-w1")}, "shop/store-v1"),
    ):
        assert check_texts(texts(**change))[0].hint == f"did you mean {meant}?"


def test_all_mistakes_are_listed_in_order():
    folder = texts(group=GROUP.replace("[POST]", "[post]"), route="a: [", split=SPLIT.replace("v1alpha4", "v1"))
    assert [error.where.partition(": ")[0] for error in check_texts(folder)] == [
        *("group.yaml:10", "route.yaml:2", "split.yaml:1", "target.yaml:17")
    ]
