"""`cbs recover`, on a machine with network and on one without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from deployments import Deployment, cbs

from coordinator.sealing.directory import KEY_FILE


@pytest.fixture
def locked(deployment) -> Callable[..., None]:
    """Sets a manifest with recovery keys, and takes the sealed key away while the coordinator is down."""

    def lock(**config: object) -> None:
        with deployment.running():
            cbs("context", "set", "shop", *deployment.connection)
            manifest = deployment.manifest(RecoveryKeys=deployment.recovery_keys(), Config=config)
            file = deployment.write("manifest.json", manifest)
            said = cbs("manifest", "set", file, "--recovery-data", deployment.folder / "recovery.json")
            assert said.code == 0, said.err
        (deployment.folder / "sealed" / KEY_FILE).unlink()

    return lock


def here(deployment: Deployment) -> None:
    """The context follows the coordinator to its new port."""
    cbs("context", "set", "shop", "--coordinator", f"127.0.0.1:{deployment.port}")


def upload(deployment: Deployment, name: str):
    key = deployment.folder / f"{name}.recovery.pem"
    secret = deployment.folder / "recovery.json"
    return cbs("recover", "upload", secret, "--name", name, "--key", key, "--output", "json")


@pytest.mark.parametrize(
    ("config", "holders"), [({}, ("kim", "lou", "max")), ({"RecoveryThreshold": 2}, ("max", "kim"))]
)
def test_recovery(locked, deployment, contexts, config, holders):
    locked(**config)
    pinned = contexts.with_name("shop.root.pem").read_bytes()
    with deployment.running():
        here(deployment)
        assert cbs("status", "--output", "json").json["Code"] == 1
        assert cbs("manifest", "get").code == 1, "this root is not the deployment's"
        for missing, name in reversed(list(enumerate(reversed(holders)))):
            said = upload(deployment, name)
            assert said.json["Remaining"] == missing
        assert "Recovery successful." in said.json["Message"]
        assert contexts.with_name("shop.root.pem").read_bytes() == pinned
        assert cbs("status", "--output", "json").json["Code"] == 3
        assert cbs("manifest", "verify", deployment.folder / "manifest.json").code == 0


def test_key_holders_without_network(locked, deployment, tmp_path):
    """Shares of a threshold scheme have 33 bytes, decrypted too."""
    locked(RecoveryThreshold=2)
    data = deployment.folder / "recovery.json"
    with deployment.running():
        here(deployment)
        public = tmp_path / "coordinator.pem"
        assert cbs("recover", "public-key", "--out", public).code == 0
        for name in ("kim", "lou"):
            key = deployment.folder / f"{name}.recovery.pem"
            plain, encrypted, signature = (tmp_path / f"{name}.{part}" for part in ("plain", "encrypted", "signature"))
            assert cbs("recover", "decrypt", data, "--name", name, "--key", key, "--out", plain).code == 0
            assert (len(plain.read_bytes()), plain.stat().st_mode & 0o777) == (33, 0o600)
            assert cbs("recover", "sign", plain, "--key", key, "--out", signature).code == 0
            assert cbs("recover", "encrypt", plain, "--coordinator-key", public, "--out", encrypted).code == 0
            said = cbs("recover", "upload", encrypted, "--signature", signature)
            assert said.code == 0, said.err
        assert cbs("status", "--output", "json").json["Code"] == 3


def test_encrypt_and_sign_decrypt_first(locked, deployment, tmp_path):
    locked(RecoveryThreshold=2)
    data = deployment.folder / "recovery.json"
    with deployment.running():
        here(deployment)
        public = deployment.write("coordinator.pem", cbs("recover", "public-key").raw)
        for name in ("lou", "max"):
            mine = ["--name", name, "--key", deployment.folder / f"{name}.recovery.pem"]
            encrypted, signature = tmp_path / "encrypted", tmp_path / "signature"
            assert cbs("recover", "sign", data, *mine, "--out", signature).code == 0
            assert cbs("recover", "encrypt", data, *mine, "--coordinator-key", public, "--out", encrypted).code == 0
            said = cbs("recover", "upload", encrypted, "--signature", signature)
            assert said.code == 0, said.err
        assert "successful" in said.out


def test_what_is_refused(locked, deployment):
    locked(RecoveryThreshold=2)
    data = deployment.folder / "recovery.json"
    kim, lou = (deployment.folder / f"{name}.recovery.pem" for name in ("kim", "lou"))
    with deployment.running():
        here(deployment)
        said = cbs("recover", "upload", data, "--name", "kim", "--key", lou)
        assert (said.code, "not for this key" in said.err) == (1, True)
        said = cbs("recover", "upload", data, "--key", kim)
        assert (said.code, "kim or lou or max" in said.err) == (3, True)
        assert cbs("recover", "upload", data, "--name", "kim").code == 3
        assert cbs("recover", "upload", data, "--name", "kim", "--key", kim, "--signature", data).code == 3
        said = cbs("recover", "upload", data, "--name", "kim", "--key", kim, "--policy", "")
        assert (said.code, "no policy" in said.err) == (3, True)
        other = deployment.write("other.json", json.dumps({"UniqueID": "00" * 32}))
        said = cbs("recover", "upload", data, "--name", "kim", "--key", kim, "--policy", other)
        assert (said.code, "UniqueID" in said.err) == (1, True)
        assert upload(deployment, "kim").json["Remaining"] == 1
        again = upload(deployment, "kim")
        assert (again.code, "already used" in again.err) == (1, True)
        assert upload(deployment, "lou").json["Remaining"] == 0


def test_not_in_recovery(shop):
    key = shop.recovery_keys() and shop.folder / "kim.recovery.pem"
    secret = shop.write("secret", bytes(range(32)))
    said = cbs("recover", "upload", secret, "--key", key)
    assert said.code == 1
    assert "cbs status" in said.err
    assert cbs("recover", "public-key").code == 1


def test_the_state_is_not_given_up_by_mistake(locked, deployment, contexts, tmp_path):
    locked()
    before = contexts.with_name("shop.root.pem").read_bytes()
    manifest: Path = deployment.folder / "manifest.json"
    with deployment.running():
        here(deployment)
        said = cbs("manifest", "set", manifest)
        assert said.code == 1
        assert "another root certificate" in said.err
        cbs("context", "unpin")
        said = cbs("manifest", "set", manifest)
        assert said.code == 1
        assert "--discard-state" in said.err
        assert not contexts.with_name("shop.root.pem").exists(), "a temporary root is not remembered"
        said = cbs("manifest", "set", manifest, "--discard-state", "--recovery-data", tmp_path / "new.json")
        assert said.code == 0, said.err
        assert cbs("status", "--output", "json").json["Code"] == 3
        assert contexts.with_name("shop.root.pem").read_bytes() != before
