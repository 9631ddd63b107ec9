"""`cbs policy explain`, `list` and `lint` on the project's own documents, and a manifest in force."""

from __future__ import annotations

import json
import shutil

import pytest
from deployments import cbs
from policy_folders import MANIFESTS, VARIANTS, allow_thief, mesh, packages, smi

BUY = "/confidential_bookstore.api.bookstore.v1.BookstoreService/BuyBook"
BOTH = ["mesh", "marbles"]


@pytest.fixture(params=["mesh", "confidential"])
def stage(request):
    return request.param


@pytest.fixture
def host(tmp_path, stage):
    return mesh(tmp_path / "mesh", stage)


@pytest.fixture
def owner(tmp_path):
    return smi(tmp_path / "smi")


def explained(host, owner, *question):
    said = cbs("policy", "explain", *question, "--mesh", host, "--smi", owner, "--output", "json")
    return said.code, json.loads(said.out)


def by_layer(answer):
    return {each["Layer"]: each for each in answer["Decisions"]}


@pytest.mark.parametrize("method", ["BuyBook", "BookstoreService/BuyBook", BUY, BUY[1:]])
def test_allowed_with_rule_file_and_line(host, owner, method):
    code, answer = explained(host, owner, "bookbuyer", "bookstore", method)
    assert code == 0
    assert [(each["Layer"], each["Allowed"], each["What"]) for each in answer["Decisions"]] == [
        (layer, True, BUY) for layer in BOTH
    ]
    for each in answer["Decisions"]:
        assert each["Rule"] == "bookstore/bookstore"
        file, line, document = each["Where"].split(":", 2)
        assert (file, document) == ("traffic-access-v1.yaml", " TrafficTarget bookstore/bookstore")
        text = (owner / file).read_text().splitlines()[int(line) - 1]
        sees_bytes = each["Layer"] == "mesh" and answer["Mesh"].endswith("confidential")
        assert ("TCPRoute" if sees_bytes else "HTTPRouteGroup") in text


def test_denied_with_what_is_near(host, owner):
    code, answer = explained(host, owner, "bookthief.bookthief", "bookstore.bookstore", "BuyBook")
    assert code == 1
    for each in answer["Decisions"]:
        assert (each["Allowed"], each["Rule"], each["Where"]) == (False, "deny-by-default", "")
        assert any("is for bookbuyer.bookbuyer" in near for near in each["Near"])


def test_the_layers_differ(host, owner):
    """The host lets the thief in; the owner does not, and that is what decides."""
    allow_thief(host / "policy")
    code, answer = explained(host, owner, "bookthief", "bookstore", "BuyBook")
    assert {layer: each["Allowed"] for layer, each in by_layer(answer).items()} == {"mesh": True, "marbles": False}
    assert code == 1


def test_permissive_mode_does_not_reach_a_marble(host, owner):
    for folder in (host / "policy", owner):
        shutil.copy(VARIANTS / "permissive.yaml", folder)
    code, answer = explained(host, owner, "bookthief", "bookstore", "BuyBook")
    found = by_layer(answer)
    assert (found["mesh"]["Allowed"], found["mesh"]["Rule"]) == (True, "permissive-mode")
    assert found["mesh"]["Where"].startswith("permissive.yaml:")
    assert (found["marbles"]["Allowed"], found["marbles"]["Rule"], code) == (False, "deny-by-default", 1)


def test_without_a_method(host, owner, stage):
    code, answer = explained(host, owner, "bookbuyer", "bookstore")
    inside = {
        each["What"].rpartition("/")[2]: each["Allowed"] for each in answer["Decisions"] if each["Layer"] == "marbles"
    }
    assert inside == {
        "(connect)": True, "ListBooks": True, "GetBook": True, "BuyBook": True, "GetSales": False, "WatchSales": False,
    }  # fmt: skip
    connect = next(each for each in answer["Decisions"] if each["What"] == "(connect)")
    assert connect["Rule"] == ("any-of-the-mesh" if stage == "mesh" else "bookstore/bookstore")
    assert code == 0
    assert explained(host, owner, "bookthief", "bookstore")[0] == 1


def test_connections_to_what_is_no_marble(host, owner):
    code, answer = explained(host, owner, "bookthief", "coordinator")
    assert [(each["Layer"], each["Allowed"]) for each in answer["Decisions"]] == [("mesh", True)]
    assert code == 0
    said = cbs("policy", "explain", "bookthief", "coordinator", "Activate", "--mesh", host)
    assert (said.code, "connections, not methods" in said.err) == (3, True)


def test_one_layer_alone(host, owner):
    said = cbs("policy", "explain", "bookbuyer", "bookstore", "BuyBook", "--smi", owner, "--output", "json").json
    assert list(by_layer(said)) == ["marbles"]
    assert "Mesh" not in said
    said = cbs("policy", "explain", "bookbuyer", "bookstore", "BuyBook", "--mesh", host, "--output", "json").json
    assert list(by_layer(said)) == ["mesh"]


def test_folders_of_the_context(deployment, host, owner):
    said = cbs("context", "set", "shop", "--coordinator", "127.0.0.1:9", "--mesh", host, "--smi", owner)
    assert (said.code, str(owner) in said.out) == (0, True)
    said = cbs("policy", "list", "--output", "json").json
    assert {each["Layer"] for each in said["Grants"]} == set(BOTH)
    assert cbs("context", "set", "shop", "--smi", "/no/such").code == 3


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (["bookbyer", "bookstore"], "did you mean bookbuyer"),
        (["bookbuyer", "bookstore", "Buy"], "no method of this name"),
        (["bookbuyer", "bookstore", "/x"], "no method of this name"),
    ],
)
def test_names_that_nobody_has(owner, question, said):
    result = cbs("policy", "explain", *question, "--smi", owner)
    assert (result.code, said in result.err) == (3, True), result.err


def test_a_name_that_several_have(owner):
    (owner / "more.yaml").write_text(
        "apiVersion: mesh.confidential-bookstore/v1alpha1\nkind: MeshService\n"
        "metadata: {name: bookstore, namespace: other}\nspec: {serviceAccount: bookstore, port: 1, appProtocol: tcp}\n"
    )
    said = cbs("policy", "explain", "bookbuyer", "bookstore", "--smi", owner)
    assert (said.code, "bookstore.bookstore or bookstore.other" in said.err) == (3, True)
    assert cbs("policy", "explain", "bookbuyer", "bookstore.bookstore", "--smi", owner).code == 0


def test_no_folder_and_no_state(tmp_path):
    said = cbs("policy", "explain", "bookbuyer", "bookstore")
    assert (said.code, "--smi DIR" in said.err) == (3, True)
    (tmp_path / "mesh").mkdir()
    said = cbs("policy", "list", "--mesh", tmp_path / "mesh")
    assert (said.code, "no mesh has run" in said.err) == (3, True)


@pytest.fixture
def in_force(empty, owner, tmp_path):
    """A coordinator with the manifest of the owner's folder."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    shutil.copy(MANIFESTS / "marbles.json", folder)
    shutil.copytree(owner, folder / "smi")
    manifest = empty.folder / "manifest.json"
    given = (*packages(tmp_path), "--user", f"alice={empty.folder / 'alice.pem'}")
    assert cbs("manifest", "build", folder, *given, "--out", manifest).code == 0
    assert cbs("manifest", "set", manifest).code == 0
    return empty


def test_the_manifest_in_force(in_force, owner):
    said = cbs("policy", "explain", "bookbuyer", "bookstore", "BuyBook", "--smi", owner, "--output", "json").json
    assert said["Manifest"] == "says the same"
    allow_thief(owner)
    said = cbs("policy", "explain", "bookthief", "bookstore", "BuyBook", "--smi", owner, "--output", "json")
    answer = json.loads(said.out)
    assert answer["Manifest"] == "DIFFERS: bookstore has another MARBLE_ACCESS_RULES"
    found = by_layer(answer)
    assert (found["marbles"]["Allowed"], found["marbles, in force"]["Allowed"]) == (True, False)
    assert said.code == 1, "what is in force decides"


def test_a_coordinator_that_does_not_answer(in_force, owner):
    said = cbs(
        "policy", "explain", "bookbuyer", "bookstore", "BuyBook", "--smi", owner, "--coordinator", "127.0.0.1:9",
        "--output", "json",
    )  # fmt: skip
    assert said.code == 0
    assert json.loads(said.out)["Manifest"].startswith("not known: ")


def test_list(host, owner, stage):
    said = cbs("policy", "list", "--mesh", host, "--smi", owner, "--output", "json").json
    grants = [(each["Layer"], each["Source"], each["Destination"]) for each in said["Grants"]]
    for layer in BOTH:
        assert (layer, "bookbuyer.bookbuyer", "bookstore.bookstore") in grants
        assert (layer, "bookthief.bookthief", "bookstore.bookstore") not in grants
    buying = {each["Layer"]: each["What"] for each in said["Grants"] if each["Rule"] == "bookstore/bookstore"}
    assert any("BuyBook" in words for words in buying["marbles"])
    assert (buying["mesh"] == ["connect to 14001"]) == (stage == "confidential")
    assert not any(each["Layer"] == "marbles" and "coordinator" in each["Destination"] for each in said["Grants"])
    text = cbs("policy", "list", "--mesh", host, "--smi", owner).out
    assert str(owner) in text
    assert f"stage {stage}" in text
    assert "buy-a-book" in text


def test_list_says_that_it_is_permissive(host):
    shutil.copy(VARIANTS / "permissive.yaml", host / "policy")
    assert "permissive-mode" in cbs("policy", "list", "--mesh", host).out


def test_lint_finds_nothing_in_ours(owner):
    assert cbs("policy", "lint", owner).code == 0


def test_lint_finds_all_mistakes(owner):
    for file in ("traffic-access-v1.yaml", "bookstore-v2.yaml"):
        (owner / file).write_text((owner / file).read_text().replace("name: bookbuyer", "name: bookbyer"))
    said = cbs("policy", "lint", owner, "--output", "json")
    result = json.loads(said.out)["Folders"][str(owner)]
    assert (said.code, len(result["Mistakes"])) == (1, 2)
    assert {each.split(":")[0] for each in result["Mistakes"]} == {"traffic-access-v1.yaml", "bookstore-v2.yaml"}


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("bookstore-routes.yaml", "BuyBook", "BuyBok", "buy-a-book fits no method"),
        ("bookstore-routes.yaml", r"pathRegex: /confidential_bookstore\.api\.bookstore\.v1\.BookstoreService/BuyBook",
         "headers: [{client-app: bookbuyer}]", "grants every method"),
        ("services.yaml", "  marble: bookbuyer\n", "", "bookbuyer.bookbuyer is no marble"),
    ],
)  # fmt: skip
def test_lint_warns(owner, file, old, new, said):
    text = (owner / file).read_text()
    assert old in text
    (owner / file).write_text(text.replace(old, new))
    result = cbs("policy", "lint", owner)
    assert (result.code, said in result.out) == (1, True), result.out


def test_lint_knows_what_only_sealed_services_forbid(owner):
    """Without a TCPRoute, a sidecar that sees only bytes would refuse everything."""
    file = owner / "traffic-access-v1.yaml"
    file.write_text(file.read_text().replace("  - kind: TCPRoute\n    name: bookstore-service-port\n", ""))
    said = cbs("policy", "lint", owner)
    assert (said.code, "TCPRoute" in said.out) == (1, True)
