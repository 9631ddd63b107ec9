#!/usr/bin/env python3
# ruff: noqa: T201
"""Check an evidence folder of `cbs verify --evidence` offline, without any code of the project.

    python verify_evidence.py FOLDER [--policy FILE] [--manifest FILE] [--trust-root PEM]

Needs Python 3.11, openssl and dcap-qvl (`pip install dcap-qvl==0.7.0`). One line per check; exit code 0 if all hold, 1
if one does not, 3 for wrong use. Without the options, a folder is checked against the policy, manifest and root that it
brings along: then look at what is printed and decide whether these are the ones you expect. With them, it is checked
against yours.

The chain of reasoning:

    1. The pinned root certifies the CPU; CPU and quoting enclave vouch for code, and for 64 bytes of report data.
    2. The report data are the hash of the coordinator's root certificate and a nonce: that code holds this root's key.
    3. The root signed the intermediate, which certifies marbles, and the manifest, which says what marbles may be.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

try:
    import dcap_qvl
except ModuleNotFoundError:
    sys.exit("dcap-qvl is needed: pip install dcap-qvl")

FORMAT = "confidential-bookstore-evidence-1"
INTEL_ROOT = "46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993"
FILES = ("quote.bin", "nonce.bin", "collateral.json", "trust_root.pem", "root.pem", "intermediate.pem",
         "manifest.json", "manifest.sig", "policy.json")  # fmt: skip


class CheckError(Exception):
    """A check does not hold."""


def main() -> int:
    """Run all checks; the exit code."""
    parser = argparse.ArgumentParser(description="Check an evidence folder offline.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--policy", type=Path, help="the code that you expect, instead of the folder's policy.json")
    parser.add_argument("--manifest", type=Path, help="the manifest that you expect")
    parser.add_argument("--trust-root", type=Path, help="the root that you trust, instead of the folder's")
    try:
        options = parser.parse_args()
    except SystemExit as stop:
        return 3 if stop.code else 0
    try:
        check(options)
    except CheckError as error:
        print(f"FAILED  {error}")
        return 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"FAILED  the folder cannot be read: {type(error).__name__}: {error}")
        return 1
    print("verified")
    return 0


def check(options: argparse.Namespace) -> None:
    """All steps in order; the first that does not hold ends it."""
    folder: Path = options.folder
    verdict = json.loads((folder / "verdict.json").read_bytes())
    content = {name: (folder / name).read_bytes() for name in FILES}
    require(verdict["format"] == FORMAT, "format", verdict["format"])
    changed = [name for name in FILES if hashlib.sha256(content[name]).hexdigest() != verdict["files"][name]]
    require(not changed, "the files are those that were written", ", ".join(changed))

    now = int(verdict["time"])
    require(now <= time.time() + 300, "the verdict is not from the future", date(now))
    trust_root = options.trust_root.read_bytes() if options.trust_root else content["trust_root.pem"]
    found = check_quote(content["quote.bin"], content["collateral.json"].decode(), trust_root, now)
    claims = read_claims(found)
    said = {name: verdict["claims"].get(name) for name in claims}
    require(claims == said, "the verdict says what the quote says", f"{said} instead of {claims}")

    root_der = openssl("x509", "-outform", "DER", given=content["root.pem"])
    expected = hashlib.sha256(root_der + content["nonce.bin"]).digest() + bytes(32)
    require(claims["report_data"] == expected.hex(), "the quote is for this coordinator root and nonce")
    require(hashlib.sha256(root_der).hexdigest() == verdict["rootFingerprint"], "root fingerprint")

    policy = options.policy.read_bytes() if options.policy else content["policy.json"]
    check_policy({key.lower(): value for key, value in json.loads(policy).items()}, claims)

    check_signed(content)
    fingerprint = hashlib.sha256(content["manifest.json"]).hexdigest()
    require(fingerprint == verdict["manifestFingerprint"], "manifest fingerprint", fingerprint)
    if options.manifest:
        require(options.manifest.read_bytes() == content["manifest.json"], "the manifest is the one you gave")
    summary(claims, fingerprint, now, found["earliest_expiration_date"])


def check_quote(quote: bytes, collateral_json: str, trust_root_pem: bytes, now: int) -> dict[str, Any]:
    """The quote under the pinned root at the time of the verdict; what dcap-qvl found."""
    root_der = openssl("x509", "-outform", "DER", given=trust_root_pem)
    point = openssl("x509", "-pubkey", "-noout", given=trust_root_pem)
    key_id = hashlib.sha384(openssl("pkey", "-pubin", "-outform", "DER", given=point)[-65:]).hexdigest()
    collateral = dcap_qvl.QuoteCollateralV3.from_json(collateral_json)
    verifier = dcap_qvl.QuoteVerifier(None if key_id == INTEL_ROOT else root_der)
    try:
        verified = verifier.verify_with_policy(quote, collateral, now, dcap_qvl.QuotePolicy.claims_only(now))
    except ValueError as error:
        raise CheckError(f"the quote verifies under the root: {' '.join(str(error).split())}") from error
    found: dict[str, Any] = json.loads(verified.to_json())
    platform = found["platform"]
    require(bytes(platform["root_key_id"]).hex() == key_id, "the quote leads to the root", key_id)
    issued, expires = found["latest_issue_date"], found["earliest_expiration_date"]
    require(issued <= now <= expires, "all evidence was in its time", f"{date(issued)} to {date(expires)}")
    pce = json.loads(collateral.tcb_info).get("pceId", "").lower()
    require(bytes(platform["pck"]["pce_id"]).hex() == pce, "the TCB info is for this CPU's PCE", pce)
    return found


def read_claims(found: dict[str, Any]) -> dict[str, Any]:
    """The claims, by the names that the verdict has for them."""
    ((kind, report),) = found["report"].items()
    while "base" in report:
        report = report["base"]
    claims = {
        "root_key_id": bytes(found["platform"]["root_key_id"]).hex(),
        "report_data": report["report_data"],
        "tcb_status": found["tcb"]["status"],
        "advisories": list(found["tcb"]["advisory_ids"]),
        "fmspc": bytes(found["platform"]["pck"]["fmspc"]).hex(),
        "expires": found["earliest_expiration_date"],
    }
    claims["simulated"] = claims["root_key_id"] != INTEL_ROOT
    if kind == "SgxEnclave":
        debug = bool(bytes.fromhex(report["attributes"])[0] & 0x02)
        return claims | {
            "tee": "SGX", "debug": debug, "unique_id": report["mr_enclave"], "signer_id": report["mr_signer"],
            "product_id": report["isv_prod_id"], "security_version": report["isv_svn"], "rtmrs": [],
        }  # fmt: skip
    debug = bool(bytes.fromhex(report["td_attributes"])[0] & 0x01)
    rtmrs = [report[f"rt_mr{index}"] for index in range(4)]
    return claims | {
        "tee": "TDX", "debug": debug, "unique_id": report["mr_td"], "signer_id": "",
        "product_id": None, "security_version": None, "rtmrs": rtmrs,
    }  # fmt: skip


def check_policy(policy: dict[str, Any], claims: dict[str, Any]) -> None:
    """The code is the expected one, on a machine in an accepted state."""
    unique, signer = (policy.get("uniqueid") or "").lower(), (policy.get("signerid") or "").lower()
    product, version = policy.get("productid"), policy.get("securityversion")
    require(bool(unique) or (signer and None not in (product, version)), "the policy names code")
    require(claims["debug"] == bool(policy.get("debug")), "policy: Debug", claims["debug"])
    require(unique in ("", claims["unique_id"]), "policy: UniqueID", claims["unique_id"])
    require(signer in ("", claims["signer_id"]), "policy: SignerID", claims["signer_id"])
    require(product in (None, claims["product_id"]), "policy: ProductID", claims["product_id"])
    high_enough = version is None or (claims["security_version"] is not None and claims["security_version"] >= version)
    require(high_enough, "policy: SecurityVersion", claims["security_version"])
    for index, rtmr in enumerate(policy.get("rtmrs") or []):
        got = claims["rtmrs"][index] if index < len(claims["rtmrs"]) else ""
        require(rtmr.lower() in ("", got), f"policy: RTMR{index}", got)
    statuses = policy.get("acceptedtcbstatuses")
    accepted = ["UpToDate", *(["SWHardeningNeeded"] if statuses is None else statuses)]
    require(claims["tcb_status"] in accepted, "policy: TCB status", claims["tcb_status"])
    listed = {advisory.upper() for advisory in policy.get("acceptedadvisories") or []}
    if claims["tcb_status"] == "SWHardeningNeeded" and listed:
        others = [advisory for advisory in claims["advisories"] if advisory.upper() not in listed]
        require(not others, "policy: advisories", ", ".join(others))


def check_signed(content: dict[str, bytes]) -> None:
    """The root signed itself, the intermediate and the manifest. Key files are temporary and public."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("root.pem", "intermediate.pem", "manifest.json", "manifest.sig"):
            (folder / file).write_bytes(content[file])
        root = str(folder / "root.pem")
        for certificate in ("root.pem", "intermediate.pem"):
            arguments = ("-no_check_time", "-check_ss_sig", "-trusted", root, "-no-CAfile", "-no-CApath", "-no-CAstore")
            proven = openssl_holds("verify", *arguments, str(folder / certificate))
            require(proven, f"the coordinator's root signed {certificate}")
        (folder / "key.pem").write_bytes(openssl("x509", "-pubkey", "-noout", given=content["root.pem"]))
        proven = openssl_holds(
            "dgst", "-sha256", "-verify", str(folder / "key.pem"),
            "-signature", str(folder / "manifest.sig"), str(folder / "manifest.json"),
        )  # fmt: skip
        require(proven, "the coordinator's root signed the manifest")


def summary(claims: dict[str, Any], fingerprint: str, now: int, expires: int) -> None:
    """What the checks have shown, for a person to compare."""
    print()
    print(f"root of trust     {'SIMULATED' if claims['simulated'] else 'Intel'}, key id {claims['root_key_id']}")
    print(f"code              {claims['tee']} {claims['unique_id']}")
    if claims["signer_id"]:
        print(f"signer            {claims['signer_id']}")
        print(f"product, version  {claims['product_id']}, {claims['security_version']}")
    print(f"TCB               {claims['tcb_status']} {' '.join(claims['advisories'])}")
    print(f"manifest          {fingerprint}")
    print(f"verified at       {date(now)}, evidence {'ran' if expires < time.time() else 'runs'} out {date(expires)}")


def require(holds: object, what: str, got: object = "") -> None:
    """One line for a check that holds; an error else."""
    if not holds:
        raise CheckError(f"{what}: {got}" if got != "" else what)
    print(f"ok      {what}")


def openssl(*arguments: str, given: bytes) -> bytes:
    """The output of an openssl command with this input."""
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=False)
    if done.returncode:
        raise CheckError(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()[-200:]}")
    return done.stdout


def openssl_holds(*arguments: str) -> bool:
    """Whether an openssl command says yes."""
    return subprocess.run(["openssl", *arguments], capture_output=True, check=False).returncode == 0


def date(seconds: int) -> str:
    """Unix seconds as people read them."""
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()


if __name__ == "__main__":
    sys.exit(main())
