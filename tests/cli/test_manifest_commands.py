"""`cbs manifest`: setting, reading, updating with several users, and what goes wrong."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from deployments import SIGNER, cbs


def package(version: int) -> dict[str, object]:
    return {"bookstore": {"SignerID": SIGNER.hex(), "ProductID": 3, "SecurityVersion": version}}


def test_set_and_get_byte_for_byte(empty, tmp_path):
    raw = b"\n " + empty.manifest() + b"  \n"
    said = cbs("manifest", "set", empty.write("manifest.json", raw), "--output", "json")
    assert said.json == {"ManifestFingerprint": hashlib.sha256(raw).hexdigest(), "RecoveryData": None}
    assert cbs("manifest", "get").raw == raw
    out = tmp_path / "got.json"
    assert cbs("manifest", "get", "--out", out).out == ""
    assert out.read_bytes() == raw
    described = cbs("manifest", "get", "--output", "json").json
    (root,) = x509.load_pem_x509_certificates(cbs("certificate", "root").raw)
    root.public_key().verify(base64.b64decode(described["ManifestSignature"]), raw, ec.ECDSA(SHA256()))
    assert described["Manifest"] == json.loads(raw)


def test_a_second_manifest(shop):
    said = cbs("manifest", "set", shop.folder / "manifest.json")
    assert said.code == 1
    assert "has a manifest already" in said.err
    assert "cbs manifest update" in said.err


def test_a_manifest_that_the_coordinator_refuses(empty, tmp_path):
    recovery = tmp_path / "recovery.json"
    wrong = empty.write("wrong.json", empty.manifest(Marbles={"bookstore": {"Package": "nowhere"}}))
    said = cbs("manifest", "set", wrong, "--recovery-data", recovery)
    assert said.code == 1
    assert "HTTP 500" in said.err
    assert "Marbles.bookstore.Package" in said.err
    assert not recovery.exists()
    assert cbs("status", "--output", "json").json["Code"] == 2


def test_the_coordinator_is_verified_before_it_gets_anything(empty):
    policy = empty.write("other.json", json.dumps({"UniqueID": "00" * 32}))
    said = cbs("manifest", "set", empty.write("manifest.json", empty.manifest()), "--policy", policy)
    assert said.code == 1
    assert "UniqueID" in said.err
    assert cbs("status", "--output", "json").json["Code"] == 2


def test_recovery_data_is_written_once(empty, tmp_path):
    manifest = empty.write("manifest.json", empty.manifest(RecoveryKeys=empty.recovery_keys()))
    taken = empty.write("taken.json", "precious")
    said = cbs("manifest", "set", manifest, "--recovery-data", taken)
    assert (said.code, taken.read_text()) == (3, "precious")
    assert cbs("status", "--output", "json").json["Code"] == 2, "nothing was uploaded"
    recovery = tmp_path / "recovery.json"
    assert cbs("manifest", "set", manifest, "--recovery-data", recovery).code == 0
    assert recovery.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(recovery.read_text())["RecoverySecrets"]) == {"kim", "lou", "max"}


def test_recovery_data_is_printed_without_a_file(empty):
    manifest = empty.write("manifest.json", empty.manifest(RecoveryKeys=empty.recovery_keys()))
    said = cbs("manifest", "set", manifest, "--output", "json")
    assert set(said.json["RecoveryData"]) == {"kim", "lou", "max"}


def test_an_update_by_two(shop, tmp_path):
    new = shop.manifest(Packages=package(5))
    file = shop.write("new.json", new)
    said = cbs("manifest", "update", file, *shop.as_user("alice"), "--output", "json")
    assert said.json == {
        "Update": "pending",
        "MissingAcknowledgments": 1,
        "MayAcknowledge": ["bob"],
        "RecoveryData": None,
    }
    pending = tmp_path / "pending.json"
    shown = cbs("manifest", "show-update", "--out", pending, "--output", "json").json
    assert shown["ManifestFingerprint"] == hashlib.sha256(new).hexdigest()
    assert shown["MayAcknowledge"] == ["bob"]
    assert pending.read_bytes() == new
    again = cbs("manifest", "update", file, *shop.as_user("alice"))
    assert again.code == 1
    assert "cbs manifest show-update" in again.err
    other = cbs("manifest", "acknowledge", shop.write("x.json", new + b" "), *shop.as_user("bob"))
    assert other.code == 1
    assert "does not match" in other.err
    assert cbs("manifest", "acknowledge", pending, *shop.as_user("reader")).code == 1
    done = cbs("manifest", "acknowledge", pending, *shop.as_user("bob"))
    assert done.code == 0, done.err
    assert "applied" in done.out
    assert cbs("manifest", "get").raw == new
    assert cbs("manifest", "verify", file).code == 0
    nothing = cbs("manifest", "show-update")
    assert (nothing.code, "no update in progress" in nothing.err) == (1, True)


def test_an_update_is_cancelled(shop):
    file = shop.write("new.json", shop.manifest(Packages=package(5)))
    cbs("manifest", "update", file, *shop.as_user("alice"))
    assert cbs("manifest", "cancel", *shop.as_user("reader")).code == 1
    said = cbs("manifest", "cancel", *shop.as_user("bob"))
    assert (said.code, "cancelled" in said.out) == (0, True)
    assert cbs("manifest", "show-update").code == 1
    assert cbs("manifest", "cancel", *shop.as_user("bob")).code == 1
    assert cbs("manifest", "get").raw == shop.manifest()


def raise_version(shop, version: int):
    update = shop.write("update.json", json.dumps({"Packages": {"bookstore": {"SecurityVersion": version}}}))
    return cbs("manifest", "update", update, *shop.as_user("alice"))


def effective_version() -> int:
    shown = json.loads(cbs("manifest", "get", "--display-update").out)
    return shown["Packages"]["bookstore"]["SecurityVersion"]


def test_the_manifest_in_force(shop):
    """A newer full manifest states its versions itself; what was raised before it no longer counts."""
    assert effective_version() == 2
    assert raise_version(shop, 4).code == 0
    assert effective_version() == 4
    assert json.loads(cbs("manifest", "get").out)["Packages"]["bookstore"]["SecurityVersion"] == 2
    file = shop.write("new.json", shop.manifest(Packages=package(1)))
    cbs("manifest", "update", file, *shop.as_user("alice"))
    assert effective_version() == 4, "pending"
    assert cbs("manifest", "acknowledge", file, *shop.as_user("bob")).code == 0
    assert effective_version() == 1
    assert raise_version(shop, 3).code == 0
    assert effective_version() == 3
    described = cbs("manifest", "get", "-u", "--output", "json").json
    assert described["Manifest"]["Packages"]["bookstore"]["SecurityVersion"] == 3


def test_a_downgrade(shop):
    said = raise_version(shop, 1)
    assert said.code == 1
    assert "downgrade" in said.err
    assert "--display-update" in said.err


def test_not_a_user_of_the_manifest(shop):
    said = cbs("manifest", "cancel", "--user-cert", shop.folder / "alice.pem", "--user-key", shop.folder / "bob.key")
    assert (said.code, "do not belong together" in said.err) == (3, True)
    cbs("manifest", "update", shop.write("new.json", shop.manifest(Users={}, Roles={})), *shop.as_user("alice"))
    cbs("manifest", "acknowledge", shop.folder / "new.json", *shop.as_user("bob"))
    said = cbs("manifest", "cancel", *shop.as_user("alice"))
    assert said.code == 1
    assert "HTTP 401" in said.err
    assert "--user-cert" in said.err


def test_the_log(shop, tmp_path):
    raise_version(shop, 4)
    lines = cbs("manifest", "log").out.splitlines()
    assert [json.loads(line)["update"] for line in lines] == ["Initial manifest set", "SecurityVersion increased"]
    assert cbs("manifest", "log", "--output", "json").json[1]["new version"] == 4
    out = tmp_path / "log"
    cbs("manifest", "log", "--out", out)
    assert out.read_text().splitlines() == lines


def test_yaml_is_uploaded_as_json(empty):
    yaml = 'Packages:\n  bookstore: {UniqueID: "' + "ab" * 32 + '"}\nMarbles:\n  bookstore:\n    Package: bookstore\n'
    expected = b'{"Marbles":{"bookstore":{"Package":"bookstore"}},"Packages":{"bookstore":{"UniqueID":"' + (
        b"ab" * 32 + b'"}}}'
    )
    file = empty.write("manifest.yaml", yaml)
    assert cbs("manifest", "set", file).code == 0
    assert cbs("manifest", "get").raw == expected
    assert cbs("manifest", "signature", file).out == hashlib.sha256(expected).hexdigest() + "\n"
    assert cbs("manifest", "verify", file).code == 0


def test_signature_is_offline(tmp_path):
    file = tmp_path / "manifest.json"
    file.write_bytes(b'{"Packages": {}}\n')
    digest = hashlib.sha256(b'{"Packages": {}}\n').hexdigest()
    assert cbs("manifest", "signature", file).out == digest + "\n"
    assert cbs("manifest", "signature", file, "--output", "json").json == {"ManifestFingerprint": digest}


@pytest.mark.parametrize(
    ("arguments", "code"), [([], 0), (["--strict"], 1), (["--tolerant"], 0), (["--output", "json"], 0)]
)
def test_lint(deployment, arguments, code):
    said = cbs("manifest", "lint", deployment.write("m.json", deployment.manifest()), *arguments)
    assert said.code == code
    assert "RecoveryKeys" in said.out, "none: that is worth a warning"


def test_lint_finds_what_a_coordinator_would_refuse(deployment):
    file = deployment.write("m.json", deployment.manifest(Packges={}))
    said = cbs("manifest", "lint", file)
    assert (said.code, "Packges" in said.err) == (1, True)
    tolerant = cbs("manifest", "lint", file, "--tolerant")
    assert (tolerant.code, "Packges" in tolerant.out) == (0, True)
