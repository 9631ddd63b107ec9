"""One mistake each, and where it is said to be. Many of them OSM accepts in silence."""

from __future__ import annotations

import textwrap

import pytest

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.smi.reading import check_texts, read_texts
from confidential_bookstore.policy.smi.resolving import sealed

BASE = """\
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: store, namespace: shop}
spec: {serviceAccount: store, port: 80, appProtocol: grpc, marble: store, grpcServices: [shop.Store]}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: store-v1, namespace: shop}
spec: {serviceAccount: store, port: 80, appProtocol: grpc, marble: store}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: store-v2, namespace: shop}
spec: {serviceAccount: store-v2, port: 80, appProtocol: grpc}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: data, namespace: shop}
spec: {serviceAccount: data, port: 3306, appProtocol: tcp}
---
apiVersion: mesh.confidential-bookstore/v1alpha1
kind: MeshService
metadata: {name: buyer, namespace: people}
spec: {serviceAccount: buyer, port: 80, appProtocol: http}
"""
ROUTES = """\
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: routes, namespace: shop}
spec:
  matches:
  - name: buy
    pathRegex: /shop\\.Store/Buy
    methods: [POST]
  - name: all
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: port, namespace: shop}
spec: {matches: {ports: [80]}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {name: any, namespace: shop}
spec: {matches: {ports: []}}
"""


def target(**changes: str) -> str:
    parts = {
        "namespace": "shop",
        "destination": "{kind: ServiceAccount, name: store, namespace: shop}",
        "sources": "[{kind: ServiceAccount, name: buyer, namespace: people}]",
        "rules": "[{kind: HTTPRouteGroup, name: routes, matches: [buy]}]",
        "more": "",
    } | changes
    return textwrap.dedent("""\
        apiVersion: access.smi-spec.io/v1alpha3
        kind: TrafficTarget
        metadata: {{name: t, namespace: {namespace}}}
        spec:
          destination: {destination}
          sources: {sources}
          rules: {rules}
        {more}""").format(**parts)


def split(
    service="store", backends="[{service: store-v1, weight: 1}, {service: store-v2, weight: 1}]", version=2, more=""
) -> str:
    return (
        f"apiVersion: split.smi-spec.io/v1alpha{version}\nkind: TrafficSplit\nmetadata: {{name: s, namespace: shop}}\n"
        f"spec:\n  service: {service}\n  backends: {backends}\n{more}"
    )


def group(match: str) -> str:
    return (
        "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: g, namespace: shop}\n"
        f"spec:\n  matches:\n  - {match}\n"
    )


def service(**changes: str) -> str:
    spec = {"serviceAccount": "new", "port": "80", "appProtocol": "grpc"} | changes
    written = ", ".join(f"{name}: {value}" for name, value in spec.items() if value)
    return (
        "apiVersion: mesh.confidential-bookstore/v1alpha1\nkind: MeshService\n"
        f"metadata: {{name: new, namespace: shop}}\nspec: {{{written}}}\n"
    )


def config(spec: str, version="v1alpha2") -> str:
    return (
        f"apiVersion: config.openservicemesh.io/{version}\nkind: MeshConfig\n"
        f"metadata: {{name: c, namespace: osm-system}}\nspec: {spec}\n"
    )


ROOT = "{kind: ServiceAccount, name: buyer, namespace: people}"
TCP = "apiVersion: specs.smi-spec.io/v1alpha4\nkind: TCPRoute\nmetadata: {name: g}\nspec: {matches: "
MISTAKES = [
    # text, line, field, words
    (target(sources="[]"), 6, "spec.sources", "is empty"),
    (target(rules="[]"), 7, "spec.rules", "is empty"),
    (target(sources=f"[{ROOT}, {ROOT}]"), 6, "spec.sources[1]", "twice"),
    (target(sources="[{kind: Group, name: buyer}]"), 6, "spec.sources[0].kind", "expected ServiceAccount"),
    (target(sources="[{kind: ServiceAccount, name: nobody}]"), 6, "spec.sources[0]", "no service runs as"),
    (target(sources="[{kind: ServiceAccount}]"), 6, "spec.sources[0]", "name is missing"),
    (target(sources="{}"), 6, "spec.sources", "a list"),
    (target(destination="{kind: ServiceAccount, name: stroe}"), 5, "spec.destination", "did you mean store.shop"),
    (
        target(destination="{kind: ServiceAccount, name: store, namespace: people}"),
        5,
        "spec.destination",
        "another namespace",
    ),
    (target(destination="{kind: ServiceAccount, name: store, port: 80}"), 5, "spec.destination.port", "unknown field"),
    (target(rules="[{kind: HTTPRouteGroup, name: rotes}]"), 7, "spec.rules[0].name", "no such HTTPRouteGroup"),
    (target(rules="[{kind: HTTPRouteGroup, name: port}]"), 7, "spec.rules[0].name", "no such HTTPRouteGroup"),
    (target(rules="[{kind: TCPRoute, name: routes}]"), 7, "spec.rules[0].name", "no such TCPRoute"),
    (target(rules="[{kind: UDPRoute, name: port}]"), 7, "spec.rules[0].kind", "not enforced by anybody"),
    (target(rules="[{kind: Route, name: port}]"), 7, "spec.rules[0].kind", "no kind of rule"),
    (target(rules="[{kind: TCPRoute, name: port, matches: [a]}]"), 7, "spec.rules[0].matches", "no matches"),
    (target(rules="[{kind: HTTPRouteGroup, name: routes, matches: []}]"), 7, "spec.rules[0].matches", "is empty"),
    (
        target(rules="[{kind: HTTPRouteGroup, name: routes, matches: [by]}]"),
        7,
        "spec.rules[0].matches[0]",
        "no such match",
    ),
    (
        target(rules="[{kind: HTTPRouteGroup, name: routes, match: [buy]}]"),
        7,
        "spec.rules[0].match",
        "did you mean matches",
    ),
    (target(destination="{kind: ServiceAccount, name: data}"), 7, "spec.rules[0]", "does not speak HTTP"),
    (
        target(destination="{kind: ServiceAccount, name: data}", rules="[{kind: TCPRoute, name: port}]"),
        7,
        "spec.rules[0].name",
        "no service of data.shop has",
    ),
    (target(more="extra: 1"), 8, "extra", "unknown field"),
    (group("{name: m, pathRegex: '('}"), 6, "spec.matches[0].pathRegex", "no regular expression of RE2"),
    (group("{name: m, pathRegex: '(?=a)'}"), 6, "spec.matches[0].pathRegex", "no regular expression of RE2"),
    (group("{name: m, pathRegex: 'a{1,900}'}"), 6, "spec.matches[0].pathRegex", "too large"),
    (group("{name: m, pathRegex: [a]}"), 6, "spec.matches[0].pathRegex", "a text"),
    (group("{name: m, pathRegex: 5}"), 6, "spec.matches[0].pathRegex", "a text"),
    (group("{name: m, methods: [BUY]}"), 6, "spec.matches[0].methods[0]", "is not known"),
    (group("{name: m, methods: [post]}"), 6, "spec.matches[0].methods[0]", "is not known"),
    (group("{name: m, methods: []}"), 6, "spec.matches[0].methods", "is empty"),
    (group("{name: m, headers: {a: b}}"), 6, "spec.matches[0].headers", "a list"),
    (group("{name: m, headers: [{a: b, c: d}]}"), 6, "spec.matches[0].headers[0]", "one map for each header"),
    (group("{name: m, headers: [{a: b}, {A: c}]}"), 6, "spec.matches[0].headers[1].A", "another entry"),
    (group("{name: m, headers: [{'a b': c}]}"), 6, "spec.matches[0].headers[0].a b", "no name of a header"),
    (group("{name: m, headers: [{a: '*'}]}"), 6, "spec.matches[0].headers[0].a", "no regular expression"),
    (group("{pathRegex: /a}"), 6, "spec.matches[0]", "name is missing"),
    (group("{name: m}\n  - {name: m}"), 7, "spec.matches[1].name", "another match has this name"),
    (
        "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: g}\nspec: {matches: []}\n",
        4,
        "spec.matches",
        "is empty",
    ),
    (
        TCP + "{}}\n",
        4,
        "spec.matches",
        "ports is missing",
    ),
    (
        TCP + "{ports: [0]}}\n",
        4,
        "spec.matches.ports[0]",
        "out of range",
    ),
    (
        TCP + "{ports: ['80']}}\n",
        4,
        "spec.matches.ports[0]",
        "a whole number",
    ),
    (
        TCP + "{ports: [80, 80]}}\n",
        4,
        "spec.matches.ports[1]",
        "twice",
    ),
    (split(backends="[{service: store, weight: 1}]"), 6, "spec.backends[0].service", "refers to itself"),
    (
        split(service="store.shop.svc.cluster.local", backends="[{service: store.shop, weight: 1}]"),
        6,
        "spec.backends[0].service",
        "refers to itself",
    ),
    (split(backends="[{service: store-v3, weight: 1}]"), 6, "spec.backends[0].service", "no such service"),
    (split(backends="[{service: data, weight: 1}]"), 6, "spec.backends[0].service", "differ in port or protocol"),
    (split(backends="[]"), 6, "spec.backends", "is empty"),
    (split(backends="[{service: store-v1, weight: 0}]"), 6, "spec.backends", "all weights are 0"),
    (split(backends="[{service: store-v1, weight: -1}]"), 6, "spec.backends[0].weight", "out of range"),
    (split(backends="[{service: store-v1, weight: 1.5}]"), 6, "spec.backends[0].weight", "a whole number"),
    (
        split(backends="[{service: store-v1, weight: 1}, {service: store-v1, weight: 2}]"),
        6,
        "spec.backends[1].service",
        "twice",
    ),
    (split(service="shop"), 5, "spec.service", "no such service"),
    (split(service="store.shop.example.org"), 5, "spec.service", "no name of a service"),
    (split() + "---\n" + split(service="store").replace("name: s,", "name: s2,"), 12, "spec.service", "split already"),
    (
        split()
        + "---\n"
        + split(service="store-v1", backends="[{service: store-v2, weight: 1}]").replace("name: s,", "name: s2,"),
        6,
        "spec.backends[0].service",
        "splits do not nest",
    ),
    (split(more="  matches: [{kind: HTTPRouteGroup, name: routes}]\n"), 7, "spec.matches", "unknown field"),
    (
        split(version=4, more="  matches: [{kind: HTTPRouteGroup, name: rutes}]\n"),
        7,
        "spec.matches[0].name",
        "no such HTTPRouteGroup",
    ),
    (split(version=4, more="  matches: [{kind: TCPRoute, name: port}]\n"), 7, "spec.matches[0].kind", "is not known"),
    (
        config("{traffic: {enablePermissiveTrafficPolicyMode: 'true'}}"),
        4,
        "spec.traffic.enablePermissiveTrafficPolicyMode",
        "true or false",
    ),
    (
        config("{traffic: {enablePermissiveTrafficPolicyMode: yes}}"),
        4,
        "spec.traffic.enablePermissiveTrafficPolicyMode",
        "true or false",
    ),
    (config("{traffic: {enableIngress: true}}"), 4, "spec.traffic.enableIngress", "unknown field"),
    (config("{sidecar: {}}"), 4, "spec.sidecar", "this mesh does not"),
    (config("{traffic: {}}", version="v1"), 1, "apiVersion", "is no version of MeshConfig"),
    (
        config("{traffic: {}}") + "---\n" + config("{traffic: {}}").replace("name: c,", "name: d,"),
        6,
        "",
        "another MeshConfig",
    ),
    (service(port="0"), 4, "spec.port", "out of range"),
    (service(port="65536"), 4, "spec.port", "out of range"),
    (service(appProtocol="udp"), 4, "spec.appProtocol", "is not known"),
    (service(serviceAccount=""), 4, "spec", "serviceAccount is missing"),
    (service(serviceAccount="New"), 4, "spec.serviceAccount", "is no name"),
    (service(appProtocol="http", grpcServices="[a.B]"), 4, "spec.grpcServices", "only a service that speaks gRPC"),
    (service(grpcServices="[a/B]"), 4, "spec.grpcServices[0]", "no full name"),
    (service(marble="store"), 1, "spec.marble", "runs as another account elsewhere"),
    (service().replace("name: new,", "name: a.b,"), 3, "metadata.name", "is no name"),
    (service().replace("name: new,", "name: store,"), 3, "metadata.name", "another document of this kind"),
    ("kind: TrafficTarget\n", 1, "", "apiVersion is missing"),
    ("apiVersion: v1\nkind: List\nmetadata: {name: l}\nspec: {}\n", 2, "kind", "a List is not taken"),
    ("apiVersion: v1\nkind: TraficTarget\nmetadata: {name: l}\nspec: {}\n", 2, "kind", "did you mean TrafficTarget"),
    (target().replace("v1alpha3", "v1alpha2"), 1, "apiVersion", "is no version of TrafficTarget"),
    ("a: 1\na: 2\n", 2, "a", "stands there twice"),
    ("1: 2\n", 1, "", "a name that is no text"),
    ("- a\n", 1, "", "a map"),
    ("a: &x 1\n", 1, "", "anchors and aliases"),
    ("a: !!python/object:os.system x\n", 1, "", "tags are not taken"),
    ("a: [\n", None, "", "not YAML"),
    ("a:\n\t- b\n", 2, "", "not YAML"),
    ("a: \x00\n", None, "", "not YAML"),
    ("[" * 200 + "]" * 200, 1, "", "too many levels"),
    ("#" * (1024 * 1024 + 1), None, "", "too large"),
]


@pytest.mark.parametrize(("text", "line", "field", "words"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(text, line, field, words):
    texts = {"a-base.yaml": BASE, "b-routes.yaml": ROUTES, "c.yaml": text}
    errors = check_texts(texts)
    assert errors, "nobody noticed"
    error = errors[0]
    assert error.where.startswith("c.yaml" if line is None else f"c.yaml:{line}"), error
    if line is not None:
        assert not error.where.removeprefix(f"c.yaml:{line}")[:1].isdigit(), error
    assert error.field == field
    assert words in error.diagnostics()
    with pytest.raises(PolicyError) as raised:
        read_texts(texts)
    assert str(raised.value) == str(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "---\n---\n# nothing\n",
        "\ufeff# with a mark\n".removeprefix("\ufeff"),
        target().replace("\n", "\r\n"),
        target(rules="[{kind: HTTPRouteGroup, name: routes}]"),
        target(rules="[{kind: TCPRoute, name: any}, {kind: HTTPRouteGroup, name: routes}]"),
        split(),
        split(version=3),
        split(version=4, more="  matches: [{kind: HTTPRouteGroup, name: routes}]\n"),
        split(service="store.shop.svc", backends="[{service: store-v2.shop, weight: 100}]"),
        config("{traffic: {}}", version="v1alpha1"),
        config("{traffic: {enablePermissiveTrafficPolicyMode: true, enableEgress: false}}"),
        group("{name: m, methods: ['*'], headers: [{client-app: buyer}, {user-agent: '.*'}]}"),
    ],
)
def test_what_is_right_is_taken(text):
    assert check_texts({"a-base.yaml": BASE, "b-routes.yaml": ROUTES, "c.yaml": text}) == []


def test_one_mistake_does_not_hide_the_next():
    errors = check_texts(
        {"a.yaml": BASE, "b.yaml": ROUTES, "c.yaml": target(sources="[]"), "d.yaml": group("{name: m, pathRegex: '('}")}
    )
    assert [error.where.partition(":")[0] for error in errors] == ["c.yaml", "d.yaml"]


def test_a_rule_without_matches_means_all_of_its_group():
    documents = read_texts(
        {"a.yaml": BASE, "b.yaml": ROUTES, "c.yaml": target(rules="[{kind: HTTPRouteGroup, name: routes}]")}
    )
    [rule] = documents.targets["shop/t"].rules
    assert [match.name for match in rule.matches] == ["buy", "all"]


@pytest.mark.parametrize(
    ("rules", "name", "words"),
    [
        ("[{kind: HTTPRouteGroup, name: routes}]", "store", "add a TCPRoute with port 80"),
        ("[{kind: HTTPRouteGroup, name: routes}, {kind: TCPRoute, name: port}]", "store-v2", "nobody could enforce"),
    ],
)
def test_what_sidecars_could_not_enforce_where_they_see_only_bytes(rules, name, words):
    text = target(rules=rules, destination=f"{{kind: ServiceAccount, name: {name}}}")
    documents = read_texts({"a.yaml": BASE, "b.yaml": ROUTES, "c.yaml": text})
    with pytest.raises(PolicyError, match=r"c\.yaml") as raised:
        sealed(documents, ["shop/store", "shop/store-v1", "shop/store-v2"])
    assert words in raised.value.diagnostics()


def test_sealing_marks_marbles():
    text = target(rules="[{kind: HTTPRouteGroup, name: routes}, {kind: TCPRoute, name: port}]")
    documents = sealed(read_texts({"a.yaml": BASE, "b.yaml": ROUTES, "c.yaml": text}))
    assert {key for key, service in documents.services.items() if service.sealed} == {"shop/store", "shop/store-v1"}
