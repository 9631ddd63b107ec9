"""The sections besides packages, marbles and secrets: their rules one by one, and what is asked of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_material import load, raw
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from manifest_material import full, recovery_pem, root_ca, root_ca_base64, spki_pem, user_der, user_pem

from confidential_bookstore.attestation.claims import INTEL_ROOT_KEY_ID, Claims
from confidential_bookstore.attestation.roots import TrustRoot
from confidential_bookstore.errors import ManifestError, PackageMismatch
from coordinator.manifest import (
    Action,
    ConfigSpec,
    FeatureGate,
    IncomingSpec,
    InfrastructureSpec,
    Manifest,
    OutgoingSpec,
    ResourceType,
    SealMode,
    check_infrastructures,
    load_manifest,
)


def load_full(**changes: Any) -> Manifest:
    return load_manifest(json.dumps(full(**changes)).encode())


def refusal(**changes: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        load_full(**changes)
    return str(caught.value)


SECRETS = full()["Secrets"] | {
    "unique": {"Type": "symmetric-key", "Size": 8},
    "note": {"Type": "plain", "UserDefined": True},
}
NO_ROLES = {"Users": None, "Roles": None}


def refused_role(**role: Any) -> str:
    return refusal(Users=None, Secrets=SECRETS, Roles={"r": role})


class TestRoles:
    def test_fields(self):
        roles = load_full().roles
        assert roles["owner"].resource_type is ResourceType.MANIFEST
        assert roles["reader"].resource_names == {"key", "tls"}
        assert roles["reader"].actions == {Action.READ_SECRET}

    @pytest.mark.parametrize("action", ["updatemanifest", "UPDATEMANIFEST"])
    def test_actions_are_case_insensitive(self, action):
        manifest = load_full(Roles=full()["Roles"] | {"owner": {"ResourceType": "Manifest", "Actions": [action]}})
        assert manifest.users_with(Action.UPDATE_MANIFEST) == ("ada", "bob")

    @pytest.mark.parametrize(
        ("role", "message"),
        [
            ({}, "Roles.r: unknown resource type"),
            ({"ResourceType": "Users"}, "Roles.r.ResourceType: unknown resource type: got 'Users', expected one of"),
            ({"ResourceType": "packages"}, "unknown resource type"),
            ({"ResourceType": "Packages", "ResourceNames": ["no"]}, "ResourceNames[0]: no such entry in Packages"),
            ({"ResourceType": "Secrets", "ResourceNames": ["key", "no"]}, "ResourceNames[1]: no such entry in Secrets"),
            ({"ResourceType": "Secrets", "ResourceNames": ["shop"]}, "no such entry in Secrets"),
            ({"ResourceType": "Packages", "Actions": ["ReadSecret"]}, "Actions[0]: no action on Packages"),
            ({"ResourceType": "Secrets", "Actions": ["UpdateManifest"]}, "Actions[0]: no action on Secrets"),
            (
                {"ResourceType": "Manifest", "Actions": ["UpdateManifest", "Delete"]},
                "Actions[1]: no action on Manifest",
            ),
            ({"ResourceType": "Manifest", "ResourceNames": ["x"]}, "ResourceNames: there is only one manifest"),
            (
                {"ResourceType": "Secrets", "ResourceNames": ["key"], "Actions": ["WriteSecret"]},
                "ResourceNames[0]: secret cannot be written",
            ),
            (
                {"ResourceType": "Secrets", "ResourceNames": ["unique"], "Actions": ["readsecret"]},
                "ResourceNames[0]: secret cannot be read",
            ),
            ({"ResourceType": "Secrets", "ResourceName": []}, 'Roles.r: unknown key "ResourceName"'),
        ],
    )
    def test_refused(self, role, message):
        assert message in refused_role(**role)

    def test_uploaded_secrets_can_be_read_and_written(self):
        role = {"ResourceType": "Secrets", "ResourceNames": ["note", "tls"], "Actions": ["ReadSecret", "WriteSecret"]}
        load_full(Users=None, Secrets=SECRETS, Roles={"r": role})


class TestUsers:
    def test_known_by_the_bytes_of_the_certificate(self):
        manifest = load_full()
        user = manifest.user_of(user_der("ada"))
        assert user is not None
        assert (user.name, user.certificate, user.roles) == ("ada", user_der("ada"), {"owner", "writer"})
        assert manifest.user_of(user_der("mallory")) is None
        assert manifest.user_of(user_der("ada")[:-1]) is None

    def test_the_first_certificate_counts(self):
        chain = "a comment\n" + user_pem("ada") + user_pem("bob")
        assert load(Users={"u": {"Certificate": chain}}).users["u"].certificate == user_der("ada")

    @pytest.mark.parametrize(
        ("user", "message"),
        [
            ({}, "Users.u: user without certificate"),
            ({"Certificate": ""}, "Users.u: user without certificate"),
            ({"Certificate": "PEM"}, "Users.u.Certificate: not a PEM CERTIFICATE: got no PEM block"),
            ({"Certificate": recovery_pem("ada")}, "not a PEM CERTIFICATE: got 'PUBLIC KEY'"),
            ({"Certificate": user_pem("ada")[:-30]}, "not a PEM CERTIFICATE"),
            ({"Certificate": user_pem("ada").replace("\nMII", "\nMIJ")}, "certificate cannot be parsed"),
            ({"Certificate": user_pem("ada").replace("\nMII", "\n!II")}, "PEM CERTIFICATE is not base64"),
            ({"Certificate": 1}, "Users.u.Certificate: wrong type"),
            ({"Certificate": user_pem("ada"), "Roles": ["none"]}, "Users.u.Roles[0]: unknown role: got 'none'"),
            ({"Certificate": user_pem("ada"), "Roles": "owner"}, "Users.u.Roles: wrong type"),
        ],
    )
    def test_refused(self, user, message):
        assert message in refusal(Users={"u": user})

    def test_two_users_with_one_certificate(self):
        users = {name: {"Certificate": user_pem("ada")} for name in ("a", "b")}
        assert refusal(Users=users) == "Users: two users have the same certificate: got 'a' and 'b'"

    def test_what_users_may(self):
        manifest = load_full()
        ada, bob = manifest.users["ada"], manifest.users["bob"]
        assert manifest.may(ada, Action.UPDATE_MANIFEST)
        assert manifest.may(ada, Action.WRITE_SECRET, ["tls"])
        assert not manifest.may(ada, Action.WRITE_SECRET, ["tls", "key"])
        assert not manifest.may(ada, Action.READ_SECRET, ["tls"])
        assert not manifest.may(ada, Action.READ_SECRET)
        assert manifest.may(bob, Action.READ_SECRET, ["tls", "key"])
        assert not manifest.may(bob, Action.READ_SECRET, ["nothing"])
        assert manifest.may(bob, Action.UPDATE_SECURITY_VERSION, ["shop"])
        assert manifest.users_with(Action.UPDATE_MANIFEST) == ("ada", "bob")
        assert manifest.users_with(Action.WRITE_SECRET) == ("ada",)

    def test_a_user_of_an_older_manifest(self):
        ada = load_full().users["ada"]
        assert ada.roles == {"owner", "writer"}
        fewer = {"Certificate": user_pem("ada"), "Roles": ["writer"]}
        assert not load_full(Users={"ada": fewer}).may(ada, Action.UPDATE_MANIFEST)
        assert load_full(Users={"ada": fewer}).may(ada, Action.WRITE_SECRET, ["tls"])
        assert not load_full(**NO_ROLES).may(ada, Action.UPDATE_MANIFEST)
        other = {"Certificate": user_pem("other"), "Roles": ["owner"]}
        assert not load_full(Users={"ada": other}).may(ada, Action.UPDATE_MANIFEST)

    def test_roles_add_up(self):
        names = {"key": ["ReadSecret"], "tls": ["ReadSecret"]}
        roles = {n: {"ResourceType": "Secrets", "ResourceNames": [n], "Actions": a} for n, a in names.items()}
        manifest = load_full(Users={"u": {"Certificate": user_pem("u"), "Roles": list(roles)}}, Roles=roles)
        assert manifest.may(manifest.users["u"], Action.READ_SECRET, ["key", "tls"])


class TestRecoveryKeys:
    def test_fields(self):
        keys = load_full().recovery_keys
        assert {name: spki_pem(spec.public_key) for name, spec in keys.items()} == full()["RecoveryKeys"]

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            (1, "RecoveryKeys.k: wrong type"),
            ("", "RecoveryKeys.k: not a PEM PUBLIC KEY"),
            (user_pem("ada"), "not a PEM PUBLIC KEY: got 'CERTIFICATE'"),
            (spki_pem(ec.generate_private_key(ec.SECP256R1()).public_key()), "recovery key is not an RSA key"),
            (recovery_pem("small", 1024), "unsuitable size: got 1024 bits, expected 2048 to 16384"),
            (spki_pem(rsa.RSAPublicNumbers(2**32 + 1, 2**2047 + 1).public_key()), "too large an exponent"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "public key cannot be parsed"),
            (
                rsa.generate_private_key(65537, 2048)
                .public_key()
                .public_bytes(Encoding.PEM, PublicFormat.PKCS1)
                .decode(),
                "not a PEM PUBLIC KEY: got 'RSA PUBLIC KEY'",
            ),
        ],
    )
    def test_refused(self, key, message):
        assert message in refusal(RecoveryKeys={"k": key}, Config=None)

    def test_there_are_as_many_as_shamir_s_scheme_has_parts(self):
        keys = {str(number): recovery_pem("same") for number in range(256)}
        assert refusal(RecoveryKeys=keys) == "RecoveryKeys: too many keys: got 256, expected at most 255"


class TestTls:
    def test_fields(self):
        manifest = load_full()
        assert manifest.marbles["frontend"].tls == ("web",)
        tag = manifest.tls["web"]
        assert tag.outgoing == (OutgoingSpec(address="store", port="5432"),)
        assert tag.incoming == (
            IncomingSpec(port="8443", certificate="tls", disable_client_auth=True),
            IncomingSpec(port="9000", certificate="", disable_client_auth=False),
        )

    @pytest.mark.parametrize(
        ("tag", "message"),
        [
            ({"Incoming": [{}]}, "TLS.web.Incoming[0]: connection without Port"),
            ({"Incoming": [{"Port": 80}]}, "TLS.web.Incoming[0].Port: wrong type"),
            ({"Incoming": [{"Port": "http"}]}, "Port: not a port"),
            ({"Incoming": [{"Port": "080"}]}, "Port: not a port"),
            ({"Incoming": [{"Port": "65536"}]}, "Port: not a port: got '65536', expected 1 to 65535"),
            (
                {"Incoming": [{"Port": "80", "Cert": "no", "DisableClientAuth": True}]},
                "Incoming[0].Cert: not a secret with a certificate: got 'no', expected one of tls",
            ),
            (
                {"Incoming": [{"Port": "80", "Cert": "key", "DisableClientAuth": True}]},
                "not a secret with a certificate",
            ),
            ({"Incoming": [{"Port": "80", "Cert": "tls"}]}, "Incoming[0]: Cert needs DisableClientAuth"),
            ({"Incoming": [{"Port": "80", "DisableClientAuth": True}]}, "DisableClientAuth needs a Cert"),
            ({"Outgoing": [{"Port": "80"}]}, "TLS.web.Outgoing[0]: outgoing connection without Addr"),
            ({"Outgoing": [{"Addr": "a"}]}, "TLS.web.Outgoing[0]: connection without Port"),
            ({"Outgoing": [{"Addr": "a", "Port": "0"}]}, "not a port"),
            ({"Outgoing": {}}, "TLS.web.Outgoing: wrong type"),
        ],
    )
    def test_refused(self, tag, message):
        assert message in refusal(TLS={"web": tag})

    def test_unknown_tag(self):
        assert refusal(TLS=None).startswith("Marbles.frontend.TLS[0]: unknown TLS tag: got 'web', expected none")


class TestConfig:
    def test_defaults(self):
        assert load().config == ConfigSpec()
        assert load(Config={"SealMode": "", "FeatureGates": None}).config == ConfigSpec(seal_mode=SealMode.PRODUCT_KEY)

    @pytest.mark.parametrize("mode", list(SealMode))
    def test_seal_modes(self, mode):
        assert load(Config={"SealMode": mode.value}).config.seal_mode is mode

    def test_gates_are_case_insensitive(self):
        config = load(Config={"FeatureGates": ["signquoteendpoint", "MONOTONICCOUNTER"]}).config
        assert config.feature_gates == {FeatureGate.SIGN_QUOTE, FeatureGate.MONOTONIC_COUNTER}

    def test_rotation(self):
        assert load(Config={"RotateRootSecret": True}).config.rotate_root_secret

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (
                {"SealMode": "productkey"},
                "Config.SealMode: unknown seal mode: got 'productkey', expected one of Disabled",
            ),
            ({"FeatureGates": ["Everything"]}, "Config.FeatureGates[0]: unknown feature gate"),
            ({"FeatureGates": ["azurehsmsealing"]}, "AzureHSMSealing is not available: this coordinator has no HSM"),
            ({"UpdateThreshold": 3}, "Config.UpdateThreshold: more than there are users"),
            ({"UpdateThreshold": -1}, "Config.UpdateThreshold: number is out of range"),
            (
                {"RecoveryThreshold": 4},
                "Config.RecoveryThreshold: more than there are recovery keys: got 4, expected 0 to 3",
            ),
            ({"RecoveryThreshold": 1}, "Config.RecoveryThreshold: one recovery key alone would be enough"),
            ({"RotateRootSecret": "yes"}, "Config.RotateRootSecret: wrong type"),
            ({"Sealmode2": ""}, 'Config: unknown key "Sealmode2"'),
        ],
    )
    def test_refused(self, config, message):
        assert message in refusal(Config=config)

    def test_one_recovery_key_needs_no_threshold(self):
        one = {"ada": recovery_pem("ada")}
        assert load_full(RecoveryKeys=one, Config=None).recovery_threshold == 0
        assert "one recovery key alone" in refusal(RecoveryKeys=one, Config={"RecoveryThreshold": 1})

    @pytest.mark.parametrize(("written", "threshold"), [(0, 0), (2, 2), (3, 0)])
    def test_recovery_threshold(self, written, threshold):
        assert load_full(Config={"RecoveryThreshold": written}).recovery_threshold == threshold

    @pytest.mark.parametrize(("written", "threshold"), [(0, 2), (1, 1), (2, 2)])
    def test_update_threshold(self, written, threshold):
        assert load_full(Config={"UpdateThreshold": written}).update_threshold == threshold

    def test_nobody_may_update(self):
        assert load_full(**NO_ROLES).update_threshold == 0
        assert "expected 0 to 0" in refusal(**NO_ROLES, Config={"UpdateThreshold": 1})


CLAIMS = Claims(
    root_key_id=INTEL_ROOT_KEY_ID,
    tee="SGX",
    report_data=bytes(64),
    debug=False,
    tcb_status="UpToDate",
    advisories=(),
    tcb_evaluation_number=17,
    fmspc="00606a000000",
    expires=0,
    unique_id="00" * 32,
    cpu_svn=bytes([5] * 16),
    qe_svn=5,
    pce_svn=5,
)


class TestInfrastructures:
    @pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
    def test_fields(self, encoding):
        (spec,) = load(
            Infrastructures={
                "cloud": {
                    "CPUSVN": list(range(16)),
                    "QESVN": 2,
                    "PCESVN": 0,
                    "RootCA": root_ca_base64(encoding),
                }
            }
        ).infrastructures.values()
        assert (spec.name, spec.cpu_svn, spec.qe_svn, spec.pce_svn) == ("cloud", bytes(range(16)), 2, 0)
        assert spec.root_key_id == TrustRoot.from_pem(root_ca().public_bytes(Encoding.PEM)).key_id

    @pytest.mark.parametrize(
        ("infrastructure", "message"),
        [
            ({"CPUSVN": "AAAA"}, "Infrastructures.i.CPUSVN: not a CPUSVN: got 3 bytes, expected 16 bytes"),
            ({"CPUSVN": "AA"}, "Infrastructures.i.CPUSVN: not base64"),
            ({"CPUSVN": [256]}, "Infrastructures.i.CPUSVN[0]: number is out of range"),
            ({"CPUSVN": True}, "CPUSVN: wrong type: got true, expected base64 or a list of numbers"),
            ({"QESVN": 65536}, "QESVN: number is out of range"),
            ({"PCESVN": 65536}, "PCESVN: number is out of range"),
            ({"RootCA": [3, 3, 3]}, "Infrastructures.i.RootCA: not a root of evidence"),
            ({"RootCA": "LS0tLS1CRUdJTiA="}, "Infrastructures.i.RootCA: not a root of evidence"),
            ({"Root": ""}, 'Infrastructures.i: unknown key "Root"'),
        ],
    )
    def test_refused(self, infrastructure, message):
        with pytest.raises(ManifestError) as caught:
            load_manifest(raw(Infrastructures={"i": infrastructure}))
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        "spec",
        [
            InfrastructureSpec(name="any"),
            InfrastructureSpec(name="equal", cpu_svn=bytes([5] * 16), qe_svn=5, pce_svn=5),
            InfrastructureSpec(name="lower", cpu_svn=bytes([4] * 16), qe_svn=0, pce_svn=4),
        ],
    )
    def test_allowed(self, spec):
        check_infrastructures(CLAIMS, [spec])
        check_infrastructures(CLAIMS, [InfrastructureSpec(name="no", qe_svn=6), spec])

    def test_no_infrastructures_allow_everything(self):
        check_infrastructures(CLAIMS, [])

    @pytest.mark.parametrize(
        ("spec", "fields"),
        [
            (InfrastructureSpec(name="x", cpu_svn=bytes([9] + [0] * 15)), "CPUSVN"),
            (InfrastructureSpec(name="x", cpu_svn=bytes([0] * 15 + [6])), "CPUSVN"),
            (InfrastructureSpec(name="x", qe_svn=6), "QESVN"),
            (InfrastructureSpec(name="x", pce_svn=6), "PCESVN"),
            (InfrastructureSpec(name="x", root_ca=root_ca().public_bytes(Encoding.DER)), "RootCA"),
            (InfrastructureSpec(name="x", root_ca=root_ca().public_bytes(Encoding.PEM), qe_svn=9), "QESVN, RootCA"),
        ],
    )
    def test_not_allowed(self, spec, fields):
        with pytest.raises(PackageMismatch) as caught:
            check_infrastructures(CLAIMS, [spec, InfrastructureSpec(name="y", qe_svn=7)])
        assert caught.value.rule == "infrastructure"
        assert caught.value.expected == f"one that allows it; against it are x ({fields}), y (QESVN)"
        assert "QESVN 5, PCESVN 5" in str(caught.value.got)
