"""`cbs context`: names for deployments, with paths and never with keys in them."""

from __future__ import annotations

import json
import os

import pytest
from deployments import cbs


@pytest.fixture
def files(deployment):
    deployment.port = 4433
    return deployment


def test_the_first_becomes_current(files, contexts):
    said = cbs("context", "set", "shop", *files.connection, *files.as_user("alice"), "--output", "json").json
    assert (said["Context"], said["Current"], said["Coordinator"]) == ("shop", True, "127.0.0.1:4433")
    assert said["VerifiedRootSHA256"] is None
    cbs("context", "set", "other", "--coordinator", "[::1]:1")
    rows = cbs("context", "list", "--output", "json").json["Contexts"]
    assert [(row["Name"], row["Current"]) for row in rows] == [("other", False), ("shop", True)]
    assert cbs("context", "use", "other").code == 0
    assert "[::1]:1" in cbs("context", "show").out
    assert "127.0.0.1:4433" in cbs("context", "show", "shop").out
    assert contexts.stat().st_mode & 0o777 == 0o600
    assert contexts.parent.stat().st_mode & 0o777 == 0o700


def test_no_key_material(files, contexts):
    cbs("context", "set", "shop", *files.connection, *files.as_user("alice"))
    text = contexts.read_text()
    assert "BEGIN" not in text
    assert set(json.loads(text)["contexts"]["shop"]) == {
        "coordinator", "policy", "trust_root", "collateral", "user_cert", "user_key"
    }  # fmt: skip


def test_what_is_not_given_stays(files):
    cbs("context", "set", "shop", *files.connection)
    said = cbs("context", "set", "shop", "--pccs", "http://127.0.0.1:1", "--trust-root", "", "--output", "json").json
    assert said["PCCS"] == "http://127.0.0.1:1"
    assert "Collateral" not in said, "one replaces the other"
    assert "TrustRoot" not in said
    assert said["Policy"] == str(files.folder / "policy.json")


def test_paths_are_kept_absolute(files, monkeypatch):
    monkeypatch.chdir(files.folder)
    cbs("context", "set", "shop", "--coordinator", "localhost:1", "--policy", "policy.json")
    assert cbs("context", "show", "--output", "json").json["Policy"] == str(files.folder / "policy.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop"], "needs a coordinator"),
        (["shop", "--coordinator", "no port"], "not an address"),
        (["../shop", "--coordinator", "localhost:1"], "not a name"),
        (["shop", "--coordinator", "localhost:1", "--policy", "/nowhere"], "cannot read the policy"),
        (["shop", "--coordinator", "localhost:1", "--root", "/nowhere"], "cannot read the root"),
        (["shop", "--coordinator", "localhost:1", "--trust-root", "/nowhere"], "cannot read the trust root"),
        (["shop", "--coordinator", "localhost:1", "--collateral", "/nowhere"], "no such directory"),
        (["shop", "--coordinator", "localhost:1", "--user-cert", "/nowhere"], "a certificate and a key"),
        (["shop", "--coordinator", "localhost:1", "--metrics", "x"], "not an address"),
    ],
)
def test_mistakes_are_told_at_once(contexts, arguments, said):
    done = cbs("context", "set", *arguments)
    assert (done.code, said in done.err) == (3, True), done.err
    assert not contexts.exists()


def test_no_context_yet(contexts):
    assert cbs("context", "list").code == 0
    assert "cbs context set" in cbs("context", "show").err
    assert cbs("context", "use", "shop").code == 3
    assert cbs("status").code == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"contexts": {"x": {"unknown": "1"}}, "current": ""}'])
def test_a_damaged_file(contexts, content):
    contexts.parent.mkdir()
    contexts.write_text(content)
    said = cbs("context", "list")
    assert said.code == 3
    assert str(contexts) in said.err


def test_the_usual_place(files, monkeypatch, tmp_path):
    monkeypatch.delenv("CBS_CONTEXT")
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    cbs("context", "set", "shop", *files.connection)
    assert (tmp_path / ".config/cbs/contexts.json").exists()
