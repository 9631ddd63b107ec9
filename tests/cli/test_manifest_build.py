"""`cbs manifest build`: from files to a manifest that a coordinator takes."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import shutil

import pytest
from deployments import cbs
from policy_folders import MANIFESTS, packages

from confidential_bookstore.attestation.simulation import sigstruct
from coordinator.manifest import load_manifest

KEY = sigstruct.new_signing_key()


@pytest.fixture
def parts(tmp_path):
    """Everything that it is made of."""
    folder = tmp_path / "manifests"
    shutil.copytree(MANIFESTS, folder)
    return folder


@pytest.fixture
def enclaves(tmp_path):
    folder = tmp_path / "enclaves"
    folder.mkdir()
    names = ("coordinator", "bookwarehouse", "bookstore", "bookbuyer", "bookthief")
    for number, name in enumerate(names, 1):
        measurement = hashlib.sha256(name.encode()).digest()
        today = dt.date(2026, 11, 24)
        signature = sigstruct.make(KEY, measurement, product_id=number, security_version=7, debug=False, date=today)
        (folder / f"{name}.sig").write_bytes(signature)
    return folder


def test_from_signed_enclaves(parts, enclaves, tmp_path):
    out = tmp_path / "manifest.json"
    said = cbs("manifest", "build", parts, "--enclaves", enclaves, "--out", out)
    assert said.code == 0, said.err
    assert hashlib.sha256(out.read_bytes()).hexdigest() in said.out
    package = load_manifest(out.read_bytes()).packages["bookstore"]
    assert (package.product_id, package.security_version, package.debug) == (3, 7, False)
    assert package.signer_id == sigstruct.parse((enclaves / "bookstore.sig").read_bytes()).mr_signer.hex()
    assert out.stat().st_mode & 0o777 == 0o600
    again = cbs("manifest", "build", parts, "--enclaves", enclaves, "--out", tmp_path / "b", "--output", "json").json
    assert again["ManifestFingerprint"] in said.out


def test_a_package_in_place_of_an_enclave(parts, enclaves, tmp_path):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"UniqueID": "cd" * 32}))
    out = tmp_path / "manifest.json"
    said = cbs("manifest", "build", parts, "--enclaves", enclaves, "--package", f"bookstore={own}", "--out", out)
    assert said.code == 0, said.err
    assert load_manifest(out.read_bytes()).packages["bookstore"].unique_id == "cd" * 32


def test_it_is_set_at_a_coordinator(empty, parts, tmp_path):
    """With a user, who may then update it; without recovery keys, which the lint says."""
    out = empty.folder / "manifest.json"
    given = (*packages(tmp_path), "--user", f"alice={empty.folder / 'alice.pem'}")
    said = cbs("manifest", "build", parts, *given, "--out", out)
    assert said.code == 0, said.err
    assert "RecoveryKeys" in said.out
    assert cbs("manifest", "set", out).code == 0
    assert cbs("manifest", "verify", out).code == 0
    raised = empty.write("raised.json", json.dumps({"Packages": {"bookstore": {"SecurityVersion": 2}}}))
    assert cbs("manifest", "update", raised, *empty.as_user("alice")).code == 0


def test_recovery_keys(empty, parts, tmp_path):
    empty.recovery_keys()
    public = empty.write("kim.pem", empty.recovery_keys()["kim"])
    out = tmp_path / "manifest.json"
    said = cbs("manifest", "build", parts, *packages(tmp_path), "--recovery-key", f"kim={public}", "--out", out)
    assert said.code == 0, said.err
    assert set(load_manifest(out.read_bytes()).recovery_keys) == {"kim"}


def built(parts, tmp_path, *more):
    return cbs("manifest", "build", parts, *packages(tmp_path), "--out", tmp_path / "manifest.json", *more)


def test_a_mistake_in_the_policy_is_named(parts, tmp_path):
    file = parts / "smi" / "traffic-access-v1.yaml"
    file.write_text(file.read_text().replace("name: bookbuyer", "name: bookbyer"))
    said = built(parts, tmp_path)
    assert said.code == 3
    assert "traffic-access-v1.yaml:" in said.err
    assert "TrafficTarget bookstore/bookstore" in said.err
    assert "spec.sources" in said.err
    assert not (tmp_path / "manifest.json").exists()


def test_a_marble_without_a_service(parts, tmp_path):
    marbles = json.loads((parts / "marbles.json").read_text())
    marbles["Marbles"]["bookbinder"] = {"Package": "bookstore"}
    (parts / "marbles.json").write_text(json.dumps(marbles))
    said = built(parts, tmp_path)
    assert (said.code, "bookbinder" in said.err, "bookwarehouse" in said.err) == (1, True, True)


def test_what_a_coordinator_would_refuse_is_not_written(parts, tmp_path):
    marbles = json.loads((parts / "marbles.json").read_text())
    marbles["Marbles"]["bookbuyer"]["Parameters"]["Env"]["X"] = "{{ hex .Secrets.Missing }}"
    (parts / "marbles.json").write_text(json.dumps(marbles))
    said = built(parts, tmp_path)
    assert (said.code, "Missing" in said.err) == (1, True)
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--user", "alice"], "NAME=FILE"),
        (["--user", "a=/no/such", "--user", "a=/no/such"], "names a file once"),
        (["--recovery-key", "kim=/no/such"], "cannot read"),
        (["--enclaves", "/no/such"], "no signed enclave"),
    ],
)
def test_wrong_use(parts, tmp_path, more, said):
    result = built(parts, tmp_path, *more)
    assert (result.code, said in result.err) == (3, True), result.err


def test_marbles_that_are_no_json(parts, tmp_path):
    (parts / "marbles.json").write_text("{\n  oops")
    said = built(parts, tmp_path)
    assert (said.code, "marbles.json" in said.err, "line 2" in said.err) == (3, True, True)


def test_an_enclave_whose_signature_is_wrong(parts, enclaves, tmp_path):
    forged = bytearray((enclaves / "bookstore.sig").read_bytes())
    forged[-800] ^= 1
    (enclaves / "bookstore.sig").write_bytes(forged)
    assert cbs("manifest", "build", parts, "--enclaves", enclaves, "--out", tmp_path / "m").code == 1
