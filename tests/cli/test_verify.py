"""`cbs verify`, `status`, `certificate`, and what they refuse."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess

import pytest
from cryptography import x509
from deployments import COORDINATOR, SIGNER, Deployment, cbs

from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform


def test_status_through_the_states(empty):
    assert cbs("status", "--output", "json").json["Code"] == 2
    cbs("manifest", "set", empty.write("manifest.json", empty.manifest()))
    said = cbs("status")
    assert said.code == 0
    assert "Coordinator is running correctly and ready to accept marbles." in said.out
    assert "\x1b" not in said.out + said.err


def test_verified(shop):
    verdict = cbs("verify", "--manifest", shop.folder / "manifest.json", "--output", "json").json
    assert verdict["Verdict"] == "verified"
    assert verdict["UniqueID"] == COORDINATOR.mr_enclave.hex()
    assert (verdict["SignerID"], verdict["ProductID"], verdict["SecurityVersion"]) == (SIGNER.hex(), 1, 2)
    assert verdict["TEE"] == "SGX, simulated"
    assert verdict["ManifestFingerprint"] == hashlib.sha256(shop.manifest()).hexdigest()
    text = cbs("verify").out
    assert "simulated" in text
    assert verdict["RootSHA256"] in text


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"UniqueID": "00" * 32}, "UniqueID"),
        ({"SignerID": "00" * 32, "ProductID": 1, "SecurityVersion": 1}, "SignerID"),
        ({"SignerID": SIGNER.hex(), "ProductID": 2, "SecurityVersion": 1}, "ProductID"),
        ({"SignerID": SIGNER.hex(), "ProductID": 1, "SecurityVersion": 3}, "SecurityVersion"),
        ({"SignerID": SIGNER.hex(), "ProductID": 1, "SecurityVersion": 1, "Debug": True}, "Debug"),
    ],
)
def test_other_code_is_refused_and_not_remembered(shop, contexts, policy, said):
    contexts.with_name("shop.root.pem").unlink()
    done = cbs("verify", "--policy", shop.write("other.json", json.dumps(policy)))
    assert done.code == 1
    assert said in done.err
    assert done.out == ""
    assert not contexts.with_name("shop.root.pem").exists()


def test_another_root_of_trust_is_refused(shop):
    other = SimulatedPlatform.create()
    assert cbs("verify", "--trust-root", shop.write("other.pem", other.root_pem)).code == 1
    assert cbs("verify", "--trust-root", "").code == 1, "Intel's root"


def test_another_manifest_is_refused(shop):
    other = shop.write("other.json", shop.manifest() + b"\n")
    for command in (["verify", "--manifest", other], ["manifest", "verify", other], ["manifest", "verify", "0" * 64]):
        said = cbs(*command)
        assert said.code == 1
        assert "another manifest is in force" in said.err
    fingerprint = hashlib.sha256(shop.manifest()).hexdigest()
    assert cbs("manifest", "verify", fingerprint).code == 0
    assert cbs("manifest", "verify", shop.folder / "manifest.json").code == 0


def test_no_manifest_yet(empty):
    said = cbs("verify")
    assert said.code == 1
    assert "cbs manifest set" in said.err


def test_unreachable(shop):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        for command in (["verify"], ["status"], ["manifest", "get"]):
            said = cbs(*command, "--coordinator", address)
            assert said.code == 2, said.err
            assert "Connection refused" in said.err
    said = cbs("verify", "--collateral", "", "--pccs", f"http://{address}")
    assert said.code == 2
    assert "PCCS" in said.err
    assert "PCCS" in said.err.splitlines()[-1], "the hint is about the PCCS, too"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["verify", "--context", "other"], "no such context"),
        (["verify", "--policy", ""], "no policy"),
        (["verify", "--collateral", ""], "no collateral"),
        (["verify", "--coordinator", ""], "which coordinator"),
        (["verify", "--coordinator", "nonsense"], "not an address"),
        (["verify", "--policy", "/nowhere"], "cannot read the policy"),
        (["verify", "--manifest", "/nowhere"], "cannot read the manifest"),
        (["verify", "--nonsense"], "No such option"),
        (["manifest", "cancel"], "--user-cert"),
        (["marble", "list"], "--metrics"),
    ],
)
def test_wrong_use(shop, command, said):
    done = cbs(*command)
    assert done.code == 3, done.err
    assert said in done.err


def test_the_root_is_remembered_and_a_new_one_refused(shop, contexts, tmp_path, machine):
    """Even though the other coordinator runs the right code: it is another deployment."""
    pinned = contexts.with_name("shop.root.pem").read_bytes()
    assert cbs("status", "--policy", "", "--collateral", "").code == 0, "the root alone is enough now"
    other = Deployment(tmp_path / "other", machine)
    with other.running():
        address = f"127.0.0.1:{other.port}"
        for command in (["status"], ["verify"], ["manifest", "get"], ["certificate", "root"]):
            said = cbs(*command, "--coordinator", address)
            assert said.code == 1, said.out
            assert "another root certificate" in said.err
        assert contexts.with_name("shop.root.pem").read_bytes() == pinned
        assert cbs("context", "unpin").code == 0
        assert cbs("status", "--coordinator", address).code == 0
    assert contexts.with_name("shop.root.pem").read_bytes() != pinned


def test_a_root_that_is_known_beforehand(shop, contexts):
    root = contexts.with_name("shop.root.pem").read_bytes()
    address = f"127.0.0.1:{shop.port}"
    cbs("context", "set", "bare", "--coordinator", address, "--root", shop.write("known.pem", root))
    assert cbs("status", "--context", "bare").code == 0
    assert "no policy" in cbs("verify", "--context", "bare").err
    other = shop.write("other.pem", shop.machine.root_pem)
    assert cbs("status", "--context", "bare", "--root", other).code == 1


def test_without_any_context(shop, contexts):
    contexts.unlink()
    assert cbs("status", *shop.connection).code == 0
    said = cbs("status", "--coordinator", f"127.0.0.1:{shop.port}")
    assert said.code == 3
    assert "no policy" in said.err


def test_certificates(shop, tmp_path):
    chain = x509.load_pem_x509_certificates(cbs("certificate", "chain").raw)
    (root,) = x509.load_pem_x509_certificates(cbs("certificate", "root").raw)
    (intermediate,) = x509.load_pem_x509_certificates(cbs("certificate", "intermediate").raw)
    assert chain == [intermediate, root]
    intermediate.verify_directly_issued_by(root)
    out = tmp_path / "root.crt"
    said = cbs("certificate", "root", "--out", out)
    assert (said.code, said.out) == (0, "")
    assert out.stat().st_mode & 0o777 == 0o600
    assert subprocess.run(["openssl", "x509", "-in", out, "-noout"], check=False).returncode == 0
    assert len(cbs("certificate", "chain", "--output", "json").json["SHA256"]) == 2
