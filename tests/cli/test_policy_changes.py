"""`cbs policy allow` and `deny`, `cbs split`: files, a manifest in force, and a mesh that takes changes or does not."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deployments import cbs
from policy_folders import MANIFESTS, VARIANTS, mesh, packages, smi, write_state

RUNNING = {"bookstore/bookstore": {"ready": True}}
BUY = "/confidential_bookstore.api.bookstore.v1.BookstoreService/BuyBook"


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


@pytest.fixture
def owner(tmp_path):
    return smi(tmp_path / "smi")


@pytest.fixture
def host(tmp_path):
    """A mesh that is not running now."""
    return mesh(tmp_path / "mesh", "confidential")


@contextmanager
def running(folder: Path, *, error: str = "") -> Iterator[None]:
    """The mesh of a folder, as far as its state goes: looks at the policy, and takes a change or refuses it."""
    write_state(folder, sidecars=RUNNING)
    stop, seen = threading.Event(), texts(folder / "policy")

    def watch() -> None:
        known, version = seen, 1
        while not stop.wait(0.05):
            now = {name: text for name, text in texts(folder / "policy").items() if not name.startswith(".")}
            if now == known:
                continue
            known, version = now, version + 1
            if error and now != seen:
                write_state(folder, error={"message": error, "since": str(version)})
            else:
                write_state(folder, version=version, error=None)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def in_force(empty, owner, tmp_path):
    """A coordinator with the manifest of the owner's folder, which alice may update; its context knows the folder."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    shutil.copy(MANIFESTS / "marbles.json", folder)
    shutil.copytree(owner, folder / "smi")
    manifest = empty.folder / "manifest.json"
    given = (*packages(tmp_path), "--user", f"alice={empty.folder / 'alice.pem'}")
    assert cbs("manifest", "build", folder, *given, "--out", manifest).code == 0
    assert cbs("manifest", "set", manifest).code == 0
    assert cbs("context", "set", "shop", *empty.as_user("alice"), "--smi", owner).code == 0
    return empty


def allowed(said) -> dict[tuple[str, str], bool]:
    return {(each["Layer"], each["What"].rpartition("/")[2]): each["Allowed"] for each in said.json["Decisions"]}


def manifest_now() -> dict:
    return json.loads(cbs("manifest", "get").out)


def rules_now(marble: str) -> list:
    return json.loads(manifest_now()["Marbles"][marble]["Parameters"]["Env"]["MARBLE_ACCESS_RULES"]["Data"])


def test_allow_and_deny_in_a_mesh_that_runs(host):
    with running(host):
        said = cbs("policy", "allow", "bookthief", "bookstore", "--mesh", host, "--output", "json")
        assert said.json["Mesh"] == "version 2 in force"
        assert all(allowed(said).values())
        said = cbs("policy", "deny", "bookthief", "bookstore", "--mesh", host, "--output", "json")
        assert said.json["Mesh"] == "version 3 in force"
        assert not any(allowed(said).values())
    assert texts(host / "policy").keys() == texts(MANIFESTS / "smi").keys()


def test_a_mesh_that_refuses(host):
    before = texts(host / "policy")
    with running(host, error="Envoy says no"):
        said = cbs("policy", "allow", "bookthief", "bookstore", "--mesh", host)
    assert (said.code, "Envoy says no" in said.err, "put back" in said.err) == (1, True, True)
    assert texts(host / "policy") == before


def test_a_mesh_that_does_nothing(host, monkeypatch):
    monkeypatch.setattr("cli.policy_changes._PATIENCE_SECONDS", 0.2)
    write_state(host, sidecars=RUNNING)
    before = texts(host / "policy")
    said = cbs("policy", "allow", "bookthief", "bookstore", "--mesh", host)
    assert (said.code, "does not take" in said.err) == (1, True)
    assert texts(host / "policy") == before


def test_a_mesh_that_does_not_run(host):
    said = cbs("policy", "allow", "bookthief", "bookstore", "--mesh", host, "--output", "json")
    assert said.json["Mesh"] == "written; the mesh does not run"
    again = cbs("policy", "allow", "bookthief", "bookstore", "--mesh", host, "--output", "json")
    assert again.json["Mesh"] == "nothing to change"


def test_one_method(owner):
    said = cbs("policy", "allow", "bookthief", "bookstore", "BuyBook", "--smi", owner, "--output", "json")
    assert allowed(said) == {("marbles", "BuyBook"): True}
    said = cbs("policy", "explain", "bookthief", "bookstore", "--smi", owner, "--output", "json")
    assert [what for (_, what), fine in allowed(said).items() if fine] == ["(connect)", "BuyBook"]
    said = cbs("policy", "deny", "bookbuyer", "bookstore", "BuyBook", "--smi", owner, "--output", "json")
    assert allowed(said) == {("marbles", "BuyBook"): False}
    said = cbs("policy", "explain", "bookbuyer", "bookstore", "--smi", owner, "--output", "json")
    assert [what for (_, what), fine in allowed(said).items() if fine] == ["(connect)", "ListBooks", "GetBook"]
    said = cbs("policy", "explain", "bookthief", "bookstore", "BuyBook", "--smi", owner, "--output", "json")
    assert allowed(said) == {("marbles", "BuyBook"): True}, "another's is as it was"
    assert cbs("policy", "lint", owner).code == 0


def test_a_method_cannot_be_taken_out_of_rules_with_headers(owner):
    file = owner / "bookstore-routes.yaml"
    file.write_text(file.read_text().replace("    methods: [POST]", "    headers: [{client-app: bookbuyer}]", 1))
    before = texts(owner)
    said = cbs("policy", "deny", "bookbuyer", "bookstore", "BuyBook", "--smi", owner)
    assert (said.code, "headers" in said.err) == (3, True)
    assert texts(owner) == before


def test_denying_in_permissive_mode_grants_nothing(host):
    """Everything is allowed then, but by no rule; so no rule is made of it."""
    shutil.copy(VARIANTS / "permissive.yaml", host / "policy")
    before = texts(host / "policy")
    assert cbs("policy", "deny", "bookthief", "bookstore", "BuyBook", "--mesh", host).code == 0
    assert texts(host / "policy") == before


def test_the_manifest_is_updated(in_force, owner):
    before = manifest_now()
    said = cbs("policy", "allow", "bookthief", "bookstore", "BuyBook", "--output", "json")
    assert said.json["Marbles"] == "manifest updated"
    assert said.json["Update"] == "applied"
    assert said.json["Manifest"] == "says the same"
    assert any(rule["sources"] == ["bookthief"] for rule in rules_now("bookstore"))
    after = manifest_now()
    for document in (before, after):
        del document["Marbles"]["bookstore"]["Parameters"]["Env"]["MARBLE_ACCESS_RULES"]
    assert after == before, "nothing else"
    said = cbs("policy", "deny", "bookthief", "bookstore", "--output", "json")
    assert said.json["Update"] == "applied"
    assert not any("bookthief" in rule["sources"] for rule in rules_now("bookstore"))


def test_versions_that_were_raised_stay_raised(in_force):
    raised = in_force.write("raised.json", json.dumps({"Packages": {"bookstore": {"SecurityVersion": 5}}}))
    assert cbs("manifest", "update", raised).code == 0
    assert cbs("policy", "allow", "bookthief", "bookstore").code == 0
    assert manifest_now()["Packages"]["bookstore"]["SecurityVersion"] == 5


def test_somebody_who_may_not(in_force, owner):
    before = texts(owner)
    said = cbs("policy", "allow", "bookthief", "bookstore", *in_force.as_user("bob"))
    assert (said.code, "HTTP 401" in said.err) == (1, True)
    assert texts(owner) == before
    assert not any("bookthief" in rule["sources"] for rule in rules_now("bookstore"))


def test_the_manifest_follows_a_folder_that_says_so_already(in_force, owner):
    shutil.copy(VARIANTS / "traffic-access-v1-allow-bookthief.yaml", owner / "traffic-access-v1.yaml")
    said = cbs("policy", "allow", "bookthief", "bookstore", "BuyBook", "--output", "json")
    assert (said.json["Update"], said.json["Manifest"]) == ("applied", "says the same")
    said = cbs("policy", "allow", "bookthief", "bookstore", "BuyBook", "--output", "json")
    assert said.json["Marbles"] == "in force, the manifest says it already"


def test_both_layers(in_force, host):
    with running(host):
        said = cbs("policy", "allow", "bookthief", "bookstore", "BuyBook", "--mesh", host, "--output", "json")
        assert (said.json["Update"], said.json["Mesh"]) == ("applied", "version 2 in force")
        assert allowed(said) == {("mesh", "BuyBook"): True, ("marbles", "BuyBook"): True}
        said = cbs("policy", "deny", "bookthief", "bookstore", "--mesh", host, "--layer", "mesh", "--output", "json")
    assert "Update" not in said.json
    assert any("bookthief" in rule["sources"] for rule in rules_now("bookstore"))


def test_a_mesh_that_refuses_what_marbles_have_taken(in_force, host):
    with running(host, error="Envoy says no"):
        said = cbs("policy", "allow", "bookthief", "bookstore", "BuyBook", "--mesh", host)
    assert said.code == 1
    assert "done before the error: Marbles: manifest updated" in said.err
    assert any("bookthief" in rule["sources"] for rule in rules_now("bookstore"))


def test_a_layer_is_never_guessed(owner):
    said = cbs("policy", "allow", "bookthief", "bookstore", "--layer", "mesh", "--smi", owner)
    assert (said.code, "--mesh DIR" in said.err) == (3, True)
    said = cbs("policy", "allow", "bookthief", "bookstore", "--layer", "both", "--smi", owner)
    assert (said.code, "only one layer" in said.err) == (3, True)


def shares(said) -> dict[tuple[str, str], str]:
    return {(each["Layer"], each["Backend"]): each["Share"] for each in said.json["Shares"]}


def test_split(in_force, host):
    with running(host):
        said = cbs("split", "50", "50", "--mesh", host, "--output", "json")
    assert set(shares(said).values()) == {"50 %"}
    assert len(shares(said)) == 4
    environment = manifest_now()["Marbles"]["bookbuyer"]["Parameters"]["Env"]
    assert json.loads(environment["MARBLE_TRAFFIC_SPLITS"]["Data"]) == {
        "bookstore": {"bookstore": 50, "bookstore-v2": 50}
    }
    said = cbs("split", "bookstore-v1=0", "bookstore-v2=3", "--output", "json")
    assert shares(said) == {
        ("marbles", "bookstore/bookstore-v1"): "0 %",
        ("marbles", "bookstore/bookstore-v2"): "100 %",
    }
    environment = manifest_now()["Marbles"]["bookbuyer"]["Parameters"]["Env"]
    assert json.loads(environment["MARBLE_TRAFFIC_SPLITS"]["Data"]) == {
        "bookstore": {"bookstore": 0, "bookstore-v2": 3}
    }


@pytest.mark.parametrize(
    "words",
    [
        ["50"],
        ["1", "2", "3"],
        ["a=1", "a=2"],
        ["bookstore-v1=x"],
        ["0", "0"],
        ["nobody=1"],
        ["bookstore=1", "bookstore-v2=1"],
    ],
)
def test_no_split(owner, words):
    before = texts(owner)
    assert cbs("split", *words, "--smi", owner).code == 3
    assert texts(owner) == before
