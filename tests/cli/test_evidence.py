"""The evidence of `cbs verify`, and the script by which others check it without any of our code."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from deployments import POLICY, SIGNER, Deployment, cbs, self_signed

from confidential_bookstore.attestation.simulation.provisioning import SimulatedPlatform

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_evidence.py"
FILES = (
    "quote.bin", "collateral.json", "root.pem", "intermediate.pem", "nonce.bin", "manifest.json", "manifest.sig",
    "trust_root.pem", "policy.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory, machine) -> tuple[Path, Deployment]:
    """A folder as `cbs verify --evidence` leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("evidence")
        patch.setenv("CBS_CONTEXT", str(folder / "contexts.json"))
        deployment = Deployment(folder / "deployment", machine)
        with deployment.running():
            manifest = deployment.write("manifest.json", deployment.manifest())
            assert cbs("manifest", "set", manifest, *deployment.connection).code == 0
            said = cbs("verify", "--evidence", folder / "found", *deployment.connection)
            assert said.code == 0, said.err
            assert str(folder / "found") in said.out
            again = cbs("verify", "--evidence", folder / "found", *deployment.connection)
            assert (again.code, "not empty" in again.err) == (3, True)
    return folder / "found", deployment


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(written[0], tmp_path / "copy"))


def check(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The script, isolated from the project."""
    command = [sys.executable, "-I", str(SCRIPT), str(folder), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def replace(folder: Path, name: str, content: bytes) -> None:
    """As somebody would who wants it to be believed: the verdict's list of files fits."""
    (folder / name).write_bytes(content)
    verdict = json.loads((folder / "verdict.json").read_text())
    verdict["files"][name] = hashlib.sha256(content).hexdigest()
    (folder / "verdict.json").write_text(json.dumps(verdict))


def changed(content: bytes) -> bytes:
    """One byte in the middle is another one, which in PEM and JSON is a digit."""
    if not content.isascii():
        return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    middle = next(index for index in range(len(content) // 2, len(content)) if content[index : index + 1].isalnum())
    return content[:middle] + (b"0" if content[middle : middle + 1] != b"0" else b"1") + content[middle + 1 :]


def test_good_evidence(written):
    done = check(written[0])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("verified\n")
    assert "SIMULATED" in done.stdout
    assert hashlib.sha256(written[1].manifest()).hexdigest() in done.stdout
    assert {path.name for path in written[0].iterdir()} == {*FILES, "verdict.json"}
    assert {path.stat().st_mode & 0o777 for path in written[0].iterdir()} == {0o600}


def test_it_holds_no_key_and_no_secret(written):
    for path in written[0].iterdir():
        assert b"PRIVATE" not in path.read_bytes()


def test_against_what_somebody_expects(written, tmp_path):
    found, deployment = written
    mine = deployment.folder
    options = (
        "--policy",
        mine / "policy.json",
        "--manifest",
        mine / "manifest.json",
        "--trust-root",
        mine / "machine.pem",
    )
    assert check(found, *options).returncode == 0
    stricter = tmp_path / "stricter.json"
    stricter.write_text(json.dumps(POLICY | {"SecurityVersion": 3}))
    assert "policy: SecurityVersion" in check(found, "--policy", stricter).stdout
    other = tmp_path / "other.json"
    other.write_bytes(deployment.manifest() + b" ")
    assert "FAILED  the manifest is the one you gave" in check(found, "--manifest", other).stdout
    root = tmp_path / "root.pem"
    root.write_bytes(SimulatedPlatform.create().root_pem)
    assert "FAILED  the quote" in check(found, "--trust-root", root).stdout
    assert check(found, "--nonsense").returncode == 3


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file(folder, name):
    path = folder / name
    path.write_bytes(changed(path.read_bytes()))
    done = check(folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"FAILED  the files are those that were written: {name}" in done.stdout


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("policy.json", "collateral.json")])
def test_a_changed_file_with_a_verdict_that_fits(folder, name):
    """The policy alone says what somebody wants, which needs no proof; a third party brings its own."""
    replace(folder, name, changed((folder / name).read_bytes()))
    done = check(folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAILED  " in done.stdout
    assert "verified\n" not in done.stdout


@pytest.mark.parametrize("part", ["tcb_info", "tcb_info_signature", "qe_identity", "pck_crl", "root_ca_crl"])
def test_changed_collateral_with_a_verdict_that_fits(folder, part):
    """Each part that decides is signed. Of the issuers' chains, the pinned root takes the last certificate's place."""
    collateral = json.loads((folder / "collateral.json").read_text())
    collateral[part] = changed(collateral[part].encode()).decode()
    replace(folder, "collateral.json", json.dumps(collateral).encode())
    done = check(folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAILED  the quote verifies under the root" in done.stdout


@pytest.mark.parametrize("name", [*FILES, "verdict.json"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    assert check(folder).returncode == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time", 1_500_000_000),
        ("time", 4_000_000_000),
        ("time", "now"),
        ("claims", {}),
        ("claims", None),
        ("manifestFingerprint", "0" * 64),
        ("rootFingerprint", "0" * 64),
        ("files", {}),
        ("format", "other"),
    ],
)
def test_a_changed_verdict(folder, key, value):
    verdict = json.loads((folder / "verdict.json").read_text())
    (folder / "verdict.json").write_text(json.dumps(verdict | {key: value}))
    done = check(folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert "FAILED" in done.stdout


@pytest.mark.parametrize("claim", ["unique_id", "signer_id", "security_version", "tcb_status", "simulated", "debug"])
def test_a_changed_claim(folder, claim):
    verdict = json.loads((folder / "verdict.json").read_text())
    verdict["claims"][claim] = {"security_version": 9, "simulated": False, "debug": True}.get(claim, "00" * 32)
    (folder / "verdict.json").write_text(json.dumps(verdict))
    assert "FAILED  the verdict says what the quote says" in check(folder).stdout


def test_a_root_of_ones_own(folder):
    """Somebody who has another key signs everything again; the quote speaks for the old root."""
    key = ec.generate_private_key(ec.SECP384R1())
    root = self_signed("MarbleRun Coordinator", key)
    replace(folder, "root.pem", root.public_bytes(Encoding.PEM))
    replace(folder, "intermediate.pem", root.public_bytes(Encoding.PEM))
    replace(folder, "manifest.sig", key.sign((folder / "manifest.json").read_bytes(), ec.ECDSA(hashes.SHA256())))
    assert "FAILED  the quote is for this coordinator root and nonce" in check(folder).stdout


def test_an_intermediate_of_somebody_else(folder):
    key = ec.generate_private_key(ec.SECP384R1())
    replace(folder, "intermediate.pem", self_signed("MarbleRun Coordinator", key).public_bytes(Encoding.PEM))
    assert "FAILED  the coordinator's root signed intermediate.pem" in check(folder).stdout


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({}, "names code"),
        ({"SignerID": SIGNER.hex(), "ProductID": 1}, "names code"),
        (POLICY | {"ProductID": 7}, "ProductID"),
        (POLICY | {"SignerID": "00" * 32}, "SignerID"),
        (POLICY | {"UniqueID": "00" * 32}, "UniqueID"),
        (POLICY | {"Debug": True}, "Debug"),
        (POLICY | {"AcceptedTCBStatuses": []}, None),
        (POLICY | {"RTMRs": ["00" * 48]}, "RTMR0"),
    ],
)
def test_the_script_judges_by_the_policy(folder, policy, said):
    replace(folder, "policy.json", json.dumps(policy).encode())
    done = check(folder)
    assert done.returncode == (1 if said else 0)
    assert said is None or f"FAILED  the policy {said}" in done.stdout or f"FAILED  policy: {said}" in done.stdout
