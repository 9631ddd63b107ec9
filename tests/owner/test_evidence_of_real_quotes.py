"""Evidence on real quotes: Intel's root is built into dcap-qvl, and still has to be in the folder."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from fake_client_api import self_signed

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID
from confidential_bookstore.attestation.quote import parse_quote
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.attestation.verifier import Verifier
from confidential_bookstore.errors import ConfigurationError
from confidential_bookstore.marble.coordinator_trust import VerifiedCoordinator
from confidential_bookstore.owner.answers import SignedManifest
from confidential_bookstore.owner.evidence import evidence_files, write_evidence
from confidential_bookstore.owner.policy import read_policy
from confidential_bookstore.owner.verification import AttestedCoordinator

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
ACCEPTED = [entry["name"] for entry in json.loads((VECTORS / "index.json").read_text()) if entry["result"] == "accept"]


class Unused:
    async def collateral_for(self, quote):
        raise AssertionError(quote)


@pytest.fixture(params=ACCEPTED)
def attested(request) -> AttestedCoordinator:
    """As if a coordinator had shown this quote."""
    folder = VECTORS / request.param
    expected = json.loads((folder / "expected.json").read_text())
    collateral = dcap_qvl.QuoteCollateralV3.from_json((folder / "collateral.json").read_text())
    quote = parse_quote((folder / "quote.bin").read_bytes())
    verifier = Verifier(TrustRoot.intel(), Unused())
    claims = verifier.check(quote, collateral, bytes.fromhex(expected["report_data"]), expected["now"])
    root = self_signed("MarbleRun Coordinator", ec.generate_private_key(ec.SECP384R1()))
    policy = read_policy(json.dumps({"UniqueID": claims.unique_id}).encode())
    coordinator = VerifiedCoordinator(root, root, claims)
    return AttestedCoordinator(
        coordinator, claims, policy, TrustRoot.intel(), b"nonce", quote.raw, collateral, expected["now"]
    )


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("verify_evidence", ROOT / "docs" / "verify_evidence.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_intels_root_is_in_the_folder(attested):
    assert TrustRoot.from_pem(attested.trust_root_pem).key_id == INTEL_ROOT_KEY_ID


def test_the_script_comes_to_the_same_claims(attested, script):
    """Of real SGX and TDX quotes, at their own time."""
    files = evidence_files(attested, SignedManifest(b"{}", b"signature"))
    said = json.loads(files["verdict.json"])["claims"]
    collateral = files["collateral.json"].decode()
    found = script.check_quote(files["quote.bin"], collateral, files["trust_root.pem"], attested.time)
    claims = script.read_claims(found)
    assert claims == {name: said[name] for name in claims}
    assert claims["simulated"] is False
    with pytest.raises(script.CheckError):
        script.check_quote(files["quote.bin"], collateral, files["trust_root.pem"], attested.time + 400 * 86400)


def test_all_of_it_is_readable(attested):
    files = evidence_files(attested, SignedManifest(b"{}", b"signature"))
    assert x509.load_pem_x509_certificate(files["root.pem"]) == attested.coordinator.root
    assert files["root.pem"] == attested.coordinator.root.public_bytes(Encoding.PEM)
    assert set(json.loads(files["verdict.json"])["versions"]) == {"confidential-bookstore", "dcap-qvl"}


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_evidence(tmp_path / "file" / "folder", {})
    with pytest.raises(ConfigurationError, match="not empty"):
        write_evidence(tmp_path, {})
