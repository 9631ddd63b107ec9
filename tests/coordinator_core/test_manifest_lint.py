"""Warnings: each has an occasion, and a manifest without occasions has none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_material import SIGNER_ID, UNIQUE_ID
from manifest_material import full, recovery_pem, user_pem

from coordinator.manifest import load_manifest
from coordinator.manifest.lint import Finding, lint
from coordinator.manifest.loading import MOST_WARNINGS

# Everything but what is never careful.
CAREFUL = {"web": full()["TLS"]["web"] | {"Incoming": [{"Port": "9000"}]}}
BASE = full(TLS=CAREFUL)
PACKAGE = BASE["Packages"]["shop"]
MARBLE = BASE["Marbles"]["frontend"]
DEBUG = "debug package: a quote of a debug enclave is never accepted"


def findings(**changes: Any) -> list[Finding]:
    return list(lint(load_manifest(json.dumps(full(**({"TLS": CAREFUL} | changes))).encode())))


def of_package(**fields: Any) -> dict[str, Any]:
    return {"Packages": {"shop": PACKAGE | fields}}


def of_marble(**fields: Any) -> dict[str, Any]:
    return {"Marbles": {"frontend": MARBLE | fields}}


def of_parameters(**fields: Any) -> dict[str, Any]:
    return of_marble(Parameters=MARBLE["Parameters"] | fields)


def of_config(**fields: Any) -> dict[str, Any]:
    return {"Config": fields}


def with_entry(section: str, name: str, entry: Any) -> dict[str, Any]:
    return {section: BASE[section] | {name: entry}}


def test_a_careful_manifest_gives_no_warning():
    assert findings() == []
    assert load_manifest(json.dumps(BASE).encode()).warnings == ()


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        (of_package(Debug=True), "Packages.shop", "debug package"),
        (
            {"Packages": {"shop": {"Debug": True, "AcceptedAdvisories": ["x"]}}},
            "Packages.shop",
            "does not identify any code",
        ),
        (of_package(SecurityVersion=0), "Packages.shop", "SecurityVersion is 0 or missing"),
        (of_package(AcceptedTCBStatuses=["Revoked"]), "Packages.shop.AcceptedTCBStatuses", "not closed: Revoked"),
        (of_package(AcceptedTCBStatuses=["OutOfDate"]), "Packages.shop.AcceptedTCBStatuses", "not closed: OutOfDate"),
        (
            of_package(AcceptedTCBStatuses=["UpToDate", "SWHardeningNeeded"], AcceptedAdvisories=[]),
            "Packages.shop.AcceptedAdvisories",
            "for every advisory",
        ),
        (
            with_entry("Packages", "old", PACKAGE),
            "Packages.old",
            "no marble uses this package",
        ),
        (
            with_entry("Packages", "vm", {"UniqueID": "ab" * 48, "AcceptedAdvisories": ["x"]}),
            "Packages.vm",
            "names its firmware",
        ),
        (with_entry("Infrastructures", "any", {}), "Infrastructures.any", "allows every platform"),
        (of_marble(MaxActivations=3), "Marbles.frontend.MaxActivations", "counts starts"),
        (of_marble(DisableSecretBinding=True), "Marbles.frontend.DisableSecretBinding", "gets the same secrets"),
        (
            of_parameters(Env=MARBLE["Parameters"]["Env"] | {"MARBLE_PREDEFINED_ROOT_CA": ""}),
            "Marbles.frontend.Parameters.Env.MARBLE_PREDEFINED_ROOT_CA",
            "reserved",
        ),
        (
            of_parameters(Env=MARBLE["Parameters"]["Env"] | {"MARBLE_TTLS_CONFIG": ""}),
            "Marbles.frontend.Parameters.Env.MARBLE_TTLS_CONFIG",
            "reserved",
        ),
        (of_parameters(Argv=["a", "{{ x }}"]), "Marbles.frontend.Parameters.Argv[1]", "looks like a template"),
        *(
            (of_parameters(Argv=[argument]), "Marbles.frontend.Parameters.Argv[0]", "looks like a secret")
            for argument in ("--password", "DB_PASSWORD=x", "--token=1", "secrets", "--api-key=1", "KEY=1", "Passwd")
        ),
        (with_entry("Secrets", "x", {"Type": "symmetric-key", "Size": 8}), "Secrets.x", "names this secret"),
        (
            with_entry("Secrets", "key", {"Type": "cert-ecdsa", "Size": 256, "Shared": True, "Cert": {"IsCA": True}}),
            "Secrets.key",
            "certificate is a CA",
        ),
        *(
            (
                with_entry("Secrets", "tls", {"Type": "cert-ed25519", "UserDefined": True} | field),
                "Secrets.tls",
                "have no effect on a certificate that is uploaded",
            )
            for field in ({"ValidFor": 3}, {"Cert": {"DNSNames": ["a"]}})
        ),
        (with_entry("Users", "x", {"Certificate": user_pem("x")}), "Users.x", "may do nothing"),
        (with_entry("Roles", "x", BASE["Roles"]["owner"]), "Roles.x", "no user has this role"),
        (with_entry("Roles", "reader", {"ResourceType": "Secrets"}), "Roles.reader", "role allows nothing"),
        (
            with_entry("Roles", "releaser", {"ResourceType": "Packages", "Actions": ["UpdateSecurityVersion"]}),
            "Roles.releaser",
            "role allows nothing",
        ),
        ({"RecoveryKeys": None, "Config": None}, "RecoveryKeys", "none: all secrets are lost"),
        ({"RecoveryKeys": {"a": recovery_pem("a")}, "Config": None}, "RecoveryKeys", "one key alone"),
        (
            with_entry("RecoveryKeys", "twin", recovery_pem("ada")),
            "RecoveryKeys.twin",
            "the same key as RecoveryKeys.ada",
        ),
        (with_entry("TLS", "x", {}), "TLS.x", "no marble has this tag"),
        ({"TLS": full()["TLS"]}, "TLS.web.Incoming[0].DisableClientAuth", "anybody can connect"),
        (
            of_parameters(Env=MARBLE["Parameters"]["Env"] | {"X": "{{ .Secrets.nowhere }}"}),
            "Marbles.frontend.Parameters",
            "names a secret that does not exist",
        ),
        (
            {"TLS": {"web": {"Incoming": [{"Port": "80"}, *BASE["TLS"]["web"]["Incoming"], {"Port": "80"}]}}},
            "TLS.web.Incoming",
            "stands there twice",
        ),
        (of_config(UpdateThreshold=1), "Config.UpdateThreshold", "1 of 2 users is no majority"),
        (of_config(SealMode="Disabled"), "Config.SealMode", "every start"),
    ],
)
def test_one_occasion_gives_one_warning(changes, path, message):
    found = [finding for finding in findings(**changes) if finding.path == path and message in finding.message]
    assert len(found) == 1
    assert found[0].hint
    assert str(found[0]) in load_manifest(json.dumps(full(**changes)).encode()).warnings


def test_a_unique_id_needs_somebody_who_may_update():
    package = {"Packages": {"shop": {"UniqueID": UNIQUE_ID, "AcceptedAdvisories": ["x"]}}}
    roles = {name: role for name, role in BASE["Roles"].items() if name != "releaser"}
    users = {"ada": {"Certificate": user_pem("ada"), "Roles": ["writer", "reader"]}}
    assert findings(**package) == []
    paths = {finding.path: finding.message for finding in findings(**package, Roles=roles, Users=users)}
    assert "can never be replaced" in paths["Packages.shop"]


@pytest.mark.parametrize(
    "changes",
    [
        of_package(AcceptedTCBStatuses=[], AcceptedAdvisories=[]),
        of_package(AcceptedTCBStatuses=["UpToDate", "ConfigurationNeeded"]),
        of_parameters(Argv=["./tokenizer", "--monkey=1", "secretary", "}}"]),
        of_config(UpdateThreshold=2),
        of_config(RecoveryThreshold=3),
        with_entry(
            "Packages",
            "shop",
            {"SignerID": SIGNER_ID, "ProductID": 0, "SecurityVersion": 2**64 - 1, "AcceptedAdvisories": ["x"]},
        ),
    ],
)
def test_no_occasion(changes):
    assert findings(**changes) == []


def test_no_argument_is_quoted():
    assert "hunter2" not in "".join(map(repr, findings(**of_parameters(Argv=["--password=hunter2 {{"]))))


def test_warnings_are_bounded():
    packages = {f"p{number}": {"Debug": True} for number in range(20_000)}
    warnings = load_manifest(json.dumps(full(Packages=BASE["Packages"] | packages)).encode()).warnings
    assert len(warnings) == MOST_WARNINGS + 1
    assert warnings[0] == f"Packages.p0: {DEBUG}"
    assert warnings[-1] == f"{4 * 20_000 + 1 - MOST_WARNINGS} more warnings"
