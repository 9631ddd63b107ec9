"""Edits of the texts: exactly what was meant changes, and every other document stays byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smi_texts import CONFIG, GROUP, ROUTE, SERVICES, SPLIT, TARGET, texts

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.smi import editing
from confidential_bookstore.policy.smi.decision import Policy
from confidential_bookstore.policy.smi.documents import read_documents
from confidential_bookstore.policy.smi.model import Account
from confidential_bookstore.policy.smi.reading import read_texts

ACCOUNTS = [
    *(Account(name, "shop") for name in ("buyer", "store", "store-v2")),
    *(Account("page", "web"), Account("db", "data")),
]
BUYER, STORE, V2, PAGE, DB = ACCOUNTS
PORTS = {BUYER: 14001, STORE: 14001, V2: 14001, PAGE: 8080, DB: 3306}
PATHS = ["/pkg.Store/Buy", "/pkg.Store/List", "/pkg.Store/Sell", "/pkgxStore/Buy", "/other.Store/Buy"]
HEADERS = {"client-app": "buyer"}


def edited(folder, edits):
    return {name: text for name, text in (folder | edits).items() if text is not None}


def answers(folder):
    """All that is granted, as (source, destination, path); a path of None is the connection."""
    policy = Policy(read_texts(folder))
    return {
        (source, destination, path)
        for source in ACCOUNTS
        for destination in ACCOUNTS
        if source != destination
        for path in (*PATHS, None)
        if policy.allow(source, destination, PORTS[destination], path and "POST", path or "", HEADERS).allowed
    }


def test_allow_one_method():
    before = texts()
    after = edited(before, editing.allow(before, V2, STORE, "/pkg.Store/Buy"))
    assert answers(after) - answers(before) == {(V2, STORE, "/pkg.Store/Buy"), (V2, STORE, None)}
    assert set(after) - set(before) == {"cbs-allow.yaml"}
    [group, route, target] = read_documents(after["cbs-allow.yaml"], "f")
    assert {each.key for each in (group, route, target)} == {"shop/cbs-store-v2.shop-to-store"}
    assert r"pathRegex: /pkg\.Store/Buy" in after["cbs-allow.yaml"]
    assert editing.allow(after, V2, STORE, "/pkg.Store/Buy") == {}


def test_allow_more_for_the_same_two_and_deny_all_of_it():
    before = texts()
    after = before
    for path in ("/pkg.Store/Buy", "/other.Store/Buy", "/pkg.Store/List"):
        after = edited(after, editing.allow(after, V2, STORE, path))
    assert after["cbs-allow.yaml"].count("kind: TrafficTarget") == 1
    assert {path for source, _, path in answers(after) if source == V2} == {
        *("/pkg.Store/Buy", "/other.Store/Buy", "/pkg.Store/List"),
        None,
    }
    assert editing.deny(after, V2, STORE) == {"cbs-allow.yaml": None}


def test_allow_everything():
    before = texts()
    after = edited(before, editing.allow(before, V2, STORE, None))
    paths = {path for source, destination, path in answers(after) if (source, destination) == (V2, STORE)}
    assert paths == {"/pkg.Store/Buy", "/pkg.Store/List", "/pkg.Store/Sell", None}
    assert editing.allow(after, V2, STORE, None) == editing.allow(after, V2, STORE, "/pkg.Store/Sell") == {}
    with_page = edited(before, editing.allow(before, BUYER, PAGE, "/books", method="GET"))
    policy = Policy(read_texts(with_page))
    assert policy.allow(BUYER, PAGE, 8080, "GET", "/books").allowed
    assert not policy.allow(BUYER, PAGE, 8080, "POST", "/books").allowed
    with_db = edited(before, editing.allow(before, PAGE, DB, None))
    assert answers(with_db) - answers(before) == {(PAGE, DB, None)}
    assert "HTTPRouteGroup" not in with_db["cbs-allow.yaml"]


def test_a_rule_that_asks_for_a_header_does_not_allow_without():
    before = texts()
    after = edited(before, editing.allow(before, BUYER, STORE, "/pkg.Store/Buy"))
    assert not Policy(read_texts(before)).allow(BUYER, STORE, 14001, "POST", "/pkg.Store/Buy").allowed
    assert Policy(read_texts(after)).allow(BUYER, STORE, 14001, "POST", "/pkg.Store/Buy").allowed


def test_permissive_mode_does_not_count_as_allowed():
    folder = texts(config=CONFIG.replace("Mode: false", "Mode: true"))
    assert "cbs-allow.yaml" in editing.allow(folder, V2, STORE, "/pkg.Store/Buy")


def test_what_others_use_is_not_widened():
    folder = edited(texts(), editing.allow(texts(), V2, STORE, "/pkg.Store/Buy"))
    name = "cbs-store-v2.shop-to-store"
    shared = TARGET.replace("target", "other").replace("name: routes\n    matches: [buy]", f"name: {name}")
    folder |= {"z.yaml": shared.replace("name: buyer\n    namespace: shop", "name: page\n    namespace: web")}
    after = edited(folder, editing.allow(folder, V2, STORE, "/pkg.Store/List"))
    assert answers(after) - answers(folder) == {(V2, STORE, "/pkg.Store/List")}
    assert f"{name}-2" in after["cbs-allow.yaml"]
    denied = edited(after, editing.deny(after, V2, STORE))
    assert {grant for grant in answers(after) if grant[0] == V2} == answers(after) - answers(denied)
    assert "kind: HTTPRouteGroup" in denied["cbs-allow.yaml"]  # page uses it still


@pytest.mark.parametrize(
    ("source", "destination", "path", "words"),
    [
        (Account("nobody", "shop"), STORE, None, "no service runs as this account: got nobody.shop"),
        (BUYER, Account("nobody", "shop"), None, "no service runs as this account: got nobody.shop"),
        (BUYER, BUYER, None, "needs no rule for itself"),
        (BUYER, DB, "/a/b", "data/db has connections, not requests"),
        (BUYER, STORE, "/a/../b", "no request has this form"),
        (BUYER, STORE, "/a/b?c", "no request has this form"),
        (BUYER, STORE, "a/b", "no request has this form"),
        (BUYER, STORE, "/a/b\nkind: x", "no request has this form"),
    ],
)
def test_what_cannot_be_allowed(source, destination, path, words):
    with pytest.raises(PolicyError, match=words):
        editing.allow(texts(), source, destination, path)


def test_nothing_is_edited_in_a_broken_folder():
    broken = texts(route="a: [")
    for edit in (
        lambda: editing.allow(broken, BUYER, STORE, None),
        lambda: editing.deny(broken, BUYER, STORE),
        lambda: editing.split(broken, "shop/store", {"shop/store-v1": 1}),
        lambda: editing.permissive(broken, on=True),
    ):
        with pytest.raises(PolicyError, match=r"route\.yaml:2"):
            edit()


COMMENTED = f"""\
# Who may buy.
%s---
# The target itself.
{TARGET.replace("sources:", "sources:  # only these")}\
# The end of it.
---
# Its port, and more.
{ROUTE}"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("beginning", ["", "---\n", "---\n# Nothing.\n"])
def test_deny_one_of_two_keeps_the_rest(newline, beginning):
    second = "  - kind: ServiceAccount\n    name: store-v2\n    namespace: shop\n  rules"
    text = (COMMENTED % beginning).replace("  rules", second).replace("\n", newline)
    folder = {"s.yaml": SERVICES, "g.yaml": GROUP, "all.yaml": text}
    [(file, after)] = editing.deny(folder, BUYER, STORE).items()
    assert file == "all.yaml"
    old, new = text.split(newline), after.split(newline)
    assert new == [
        *old[: old.index("  sources:  # only these") + 1],
        "  - {kind: ServiceAccount, name: store-v2, namespace: shop}",
        *old[old.index("  rules:") :],
    ]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_deny_the_only_one_removes_its_document(newline):
    text = (COMMENTED % "").replace("\n", newline)
    folder = {"s.yaml": SERVICES, "g.yaml": GROUP, "all.yaml": text}
    after = editing.deny(folder, BUYER, STORE)["all.yaml"]
    assert after == f"# Who may buy.\n---\n# Its port, and more.\n{ROUTE}".replace("\n", newline)
    first = {
        "s.yaml": SERVICES,
        "g.yaml": GROUP,
        "r.yaml": ROUTE,
        "all.yaml": f"# Mine.\n{TARGET}---\n# Yours.\n{SPLIT}",
    }
    assert editing.deny(first, BUYER, STORE)["all.yaml"] == f"# Yours.\n{SPLIT}"


def test_deny_in_flow_style_and_json():
    sources = (
        '[{"kind": "ServiceAccount", "name": "buyer", "namespace": "shop"},'
        ' {"kind": "ServiceAccount", "name": "page", "namespace": "web"}]'
    )
    target = (
        '{"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget", "metadata": {"name": "target",'
        ' "namespace": "shop"},\n "spec": {"destination": {"kind": "ServiceAccount", "name": "store"}, "sources": %s,'
        '\n  "rules": [{"kind": "TCPRoute", "name": "port"}]}}\n'
    )
    folder = {"s.yaml": SERVICES, "r.yaml": ROUTE, "t.json": target % sources}
    left = '[{"kind": "ServiceAccount", "name": "page", "namespace": "web"}]'
    assert editing.deny(folder, BUYER, STORE) == {"t.json": target % left}
    folder["t.yaml"] = folder.pop("t.json")
    assert editing.deny(folder, BUYER, STORE) == {"t.yaml": target % left.replace('"', "")}


def test_split_is_changed_or_added():
    half = {"shop/store-v1": 50, "shop/store-v2": 50}
    folder = texts()
    assert editing.split(folder, "shop/store", half) == {}
    changed = editing.split(folder, "shop/store", {"shop/store-v1": 0, "shop/store-v2": 3})
    head = SPLIT[: SPLIT.index("  - service: store-v1")]
    assert changed == {"split.yaml": head + "  - {service: store-v1, weight: 0}\n  - {service: store-v2, weight: 3}\n"}
    del folder["split.yaml"]
    added = editing.split(folder, "shop/store", half)
    split = read_texts(edited(folder, added)).splits["shop/store"]
    assert list(added) == ["cbs-split.yaml"]
    assert {each.service: each.weight for each in split.backends} == half
    for wrong in ({"shop/store-v1": 0}, {"shop/store": 1}, {"shop/other": 1}, {"web/page": 1}, {}):
        with pytest.raises(PolicyError):
            editing.split(folder, "shop/store", wrong)


def test_permissive_is_changed_or_added():
    folder = texts()
    assert editing.permissive(folder, on=False) == {}
    on = editing.permissive(folder, on=True)
    assert on == {"config.yaml": CONFIG.replace("Mode: false", "Mode: true")}
    assert editing.permissive(edited(folder, on), on=False) == {"config.yaml": CONFIG}
    without = CONFIG.replace("    enablePermissiveTrafficPolicyMode: false\n", "")
    added = editing.permissive(texts(config=without), on=True)
    assert read_texts(texts() | added).config.permissive
    assert added["config.yaml"].startswith(CONFIG[: CONFIG.index("    enable")])
    del folder["config.yaml"]
    assert editing.permissive(folder, on=False) == {}
    new = edited(folder, editing.permissive(folder, on=True))
    assert read_texts(new).config.permissive
    assert not read_texts(edited(new, editing.permissive(new, on=False))).config.permissive


def test_a_byte_order_mark_does_not_shift_what_is_replaced():
    on = editing.permissive(texts(config="\ufeff# é 𝄞\n" + CONFIG), on=True)
    assert on == {"config.yaml": "# é 𝄞\n" + CONFIG.replace("Mode: false", "Mode: true")}


pairs = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(ACCOUNTS)).filter(lambda pair: pair[0] != pair[1])
steps = st.lists(st.tuples(st.booleans(), pairs, st.none() | st.sampled_from(PATHS[:3])), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_each_edit_changes_its_pair_only(found):
    folder = texts()
    for adds, (source, destination), path in found:
        before = answers(folder)
        if adds:
            wanted = None if destination == DB else path
            edits = editing.allow(folder, source, destination, wanted)
            folder = edited(folder, edits)
            new = answers(folder)
            assert before <= new
            assert {(source, destination, None), (source, destination, wanted)} <= new
            if wanted is not None:
                assert new - before <= {(source, destination, None), (source, destination, wanted)}
            assert editing.allow(folder, source, destination, wanted) == {}
            assert set(edits) <= {"cbs-allow.yaml"}
        else:
            edits = editing.deny(folder, source, destination)
            folder = edited(folder, edits)
            new = answers(folder)
            assert before - new == {grant for grant in before if grant[:2] == (source, destination)}
            assert new <= before
            assert editing.deny(folder, source, destination) == {}
        assert {grant[:2] for grant in before ^ new} <= {(source, destination)}


@settings(max_examples=60, deadline=None)
@given(st.permutations(["target", "route", "group", "split", "config"]), st.sampled_from(["\n", "\r\n"]), st.data())
def test_other_documents_stay_byte_for_byte(order, newline, data):
    """In one file, with comments anywhere, also of characters that are several bytes."""
    comments = st.sampled_from(["", "# a comment\n", "# --- é 𝄞\n\n", "\n"])
    parts = {"target": TARGET, "route": ROUTE, "group": GROUP, "split": SPLIT, "config": CONFIG}
    chunks = {name: (data.draw(comments) + parts[name] + data.draw(comments)).replace("\n", newline) for name in order}
    separator = f"---{newline}"
    folder = {"s.yaml": SERVICES, "all.yaml": separator.join(chunks.values())}
    without = separator.join(chunk for name, chunk in chunks.items() if name != "target")
    assert editing.deny(folder, BUYER, STORE) == {"all.yaml": without}
    on = chunks["config"].replace("Mode: false", "Mode: true")
    assert editing.permissive(folder, on=True) == {"all.yaml": folder["all.yaml"].replace(chunks["config"], on)}
