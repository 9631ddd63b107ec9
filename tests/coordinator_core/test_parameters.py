"""An activation's rules and parameters."""

from __future__ import annotations

import base64
import datetime as dt
from uuid import UUID, uuid4

import pytest
from core_material import NOW, SIGNER_ID, TRUST_DOMAIN, load, load_with, request
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from confidential_bookstore.errors import ActivationDenied, InvalidRequest, ManifestError, TemplateError
from confidential_bookstore.pki.names import marble_type_of
from confidential_bookstore.secret import Secret
from coordinator.deployment.activation import ActivationRequest, Parameters, build_parameters, check_request, parse_uuid
from coordinator.manifest import Manifest
from coordinator.secret_value import SecretType, SecretValue
from coordinator.secrets.generation import unique_symmetric
from coordinator.secrets.lifecycle import SecretValues, first_values

TEXT = "3f9a8c52-6c6e-4f8e-9d2b-5a1f0c7e4d11"
ID = UUID(TEXT)
ROOT_SECRET = Secret(b"r" * 32)
PEM = serialization.Encoding.PEM
DER = serialization.Encoding.DER


def build(authority, manifest: Manifest, marble_type: str = "frontend", **changes) -> Parameters:
    arguments = {
        "uuid": ID,
        "csr_der": request("localhost"),
        "authority": authority,
        "secrets": SecretValues(),
        "previous_root_secret": ROOT_SECRET,
        "root_secret": ROOT_SECRET,
        "trust_domain": TRUST_DOMAIN,
        "lifetime": dt.timedelta(hours=24),
        "now": NOW,
    }
    return build_parameters(manifest, marble_type, **(arguments | changes))


class TestRequest:
    def ask(self, marble_type: str, limit: int = 0, **activations: int):
        manifest = load(Marbles={"frontend": {"Package": "shop", "MaxActivations": limit}})
        asked = ActivationRequest(marble_type=marble_type, uuid="not looked at", csr=b"", quote=b"")
        return check_request(manifest, asked, activations)

    def test_a_known_type(self):
        assert self.ask("frontend").name == "frontend"

    @pytest.mark.parametrize("marble_type", ["", "Frontend", "backend", "frontend ", "x" * 10_000])
    def test_an_unknown_type(self, marble_type):
        with pytest.raises(ActivationDenied) as caught:
            self.ask(marble_type)
        assert str(caught.value) == "unknown marble type requested"

    @pytest.mark.parametrize(("limit", "count"), [(0, 10**9), (1, 0), (3, 2)])
    def test_within_the_limit(self, limit, count):
        assert self.ask("frontend", limit, frontend=count).max_activations == limit

    def test_never_activated_and_others_do_not_count(self):
        assert self.ask("frontend", 1, backend=7)

    @pytest.mark.parametrize(("limit", "count"), [(1, 1), (3, 3), (3, 4)])
    def test_limit_reached(self, limit, count):
        with pytest.raises(ActivationDenied) as caught:
            self.ask("frontend", limit, frontend=count)
        assert str(caught.value) == f'reached max activations count ({limit}) for marble type "frontend"'

    def test_the_package_of_the_marble_is_at_hand(self):
        manifest = load()
        marble = check_request(manifest, ActivationRequest(marble_type="frontend", uuid="", csr=b"", quote=b""), {})
        assert manifest.packages[marble.package].to_package().signer_id == SIGNER_ID


class TestUuid:
    @pytest.mark.parametrize(
        "text",
        [
            TEXT,
            TEXT.upper(),
            f"urn:uuid:{TEXT}",
            f"URN:UUID:{TEXT.upper()}",
            f"{{{TEXT}}}",
            TEXT.replace("-", ""),
            TEXT.replace("-", "").upper(),
        ],
    )
    def test_forms(self, text):
        assert parse_uuid(text) == ID

    @pytest.mark.parametrize(
        "text",
        [
            "",
            TEXT[:-1],
            f"{TEXT}0",
            f"{TEXT}\n",
            f" {TEXT}",
            f"{{{TEXT}",
            f"{TEXT}}}",
            f"urn:{TEXT}",
            f"urn:uuid:{{{TEXT}}}",
            f"urn:uuid:{TEXT.replace('-', '')}",
            f"{{{TEXT.replace('-', '')}}}",
            TEXT.replace("-", "_"),
            TEXT.replace("3", "g"),
            TEXT.replace("3", "٣"),
            "3f9a8c526-c6e-4f8e-9d2b-5a1f0c7e4d11",
            "x" * 10_000,
        ],
    )
    def test_refused(self, text):
        with pytest.raises(InvalidRequest, match="invalid UUID"):
            parse_uuid(text)

    @pytest.mark.parametrize("text", [str(UUID(int=0)), "0" * 32, f"{{{UUID(int=0)}}}", f"urn:uuid:{UUID(int=0)}"])
    def test_the_nil_uuid(self, text):
        with pytest.raises(InvalidRequest, match="the nil UUID"):
            parse_uuid(text)

    @given(st.uuids(allow_nil=False))
    def test_any_uuid_in_any_form(self, value):
        for text in (str(value), value.urn, f"{{{value}}}", value.hex):
            assert parse_uuid(text) == parse_uuid(text.upper()) == value

    @given(st.text() | st.text(alphabet="0123456789abcdefABCDEF-{}urn:id", max_size=50))
    def test_any_text_is_a_uuid_or_refused(self, text):
        try:
            value = parse_uuid(text)
        except InvalidRequest:
            return
        assert value.hex in text.lower().replace("-", "")


class TestPredefinedVariables:
    def test_certificates_and_key(self, authority):
        env = build(authority, load()).env
        assert env.keys() == {
            "MARBLE_PREDEFINED_ROOT_CA",
            "MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN",
            "MARBLE_PREDEFINED_PRIVATE_KEY",
            "MARBLE_PREDEFINED_COORDINATOR_ROOT_CA",
        }
        assert env["MARBLE_PREDEFINED_ROOT_CA"] == authority.marble_root.public_bytes(PEM)
        assert env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"] == authority.root.public_bytes(PEM)
        leaf, intermediate = x509.load_pem_x509_certificates(env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"])
        assert intermediate == authority.intermediate
        leaf.verify_directly_issued_by(intermediate)
        assert marble_type_of(leaf) == "frontend"
        assert leaf.subject.rfc4514_string() == f"CN={TEXT}"
        assert leaf.not_valid_after_utc == NOW + dt.timedelta(hours=24)
        assert env["MARBLE_PREDEFINED_PRIVATE_KEY"].startswith(b"-----BEGIN PRIVATE KEY-----\n")
        key = serialization.load_pem_private_key(env["MARBLE_PREDEFINED_PRIVATE_KEY"], None)
        assert key.public_key() == leaf.public_key()

    def test_blocks_have_lines_of_64_and_end_with_one(self, authority):
        for value in build(authority, load()).env.values():
            lines = value.decode().split("\n")
            assert lines[-1] == ""
            assert all(len(line) == 64 for line in lines[1:3])

    def test_they_stand_above_the_manifest(self, authority):
        env = build(authority, load_with(env={"MARBLE_PREDEFINED_ROOT_CA": "mine", "MARBLE_X": "y"})).env
        assert env["MARBLE_PREDEFINED_ROOT_CA"] == authority.marble_root.public_bytes(PEM)
        assert env["MARBLE_X"] == b"y"

    def test_templates_show_the_same(self, authority):
        everything = {
            "root": "{{ pem .MarbleRun.RootCA.Cert }}",
            "chain": "{{ pem .MarbleRun.MarbleCert.Cert }}{{ pem .MarbleRun.CoordinatorIntermediate.Cert }}",
            "key": "{{ pem .MarbleRun.MarbleCert.Private }}",
            "public": "{{ raw .MarbleRun.MarbleCert.Public }}",
            "coordinator": "{{ pem .MarbleRun.CoordinatorRoot.Cert }}",
        }
        parameters = build(authority, load_with(files=everything))
        env = parameters.env
        assert parameters.files["root"] == env["MARBLE_PREDEFINED_ROOT_CA"]
        assert parameters.files["chain"] == env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"]
        assert parameters.files["key"] == env["MARBLE_PREDEFINED_PRIVATE_KEY"]
        assert parameters.files["coordinator"] == env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"]
        key = serialization.load_pem_private_key(env["MARBLE_PREDEFINED_PRIVATE_KEY"], None)
        assert serialization.load_der_public_key(parameters.files["public"]) == key.public_key()


SECRETS = {
    "edbMasterKey": {"Type": "symmetric-key", "Size": 128},
    "shared": {"Type": "symmetric-key", "Size": 256, "Shared": True},
    "tls": {"Type": "cert-ecdsa", "Size": 256, "Shared": True, "Cert": {"DNSNames": ["bookwarehouse"]}},
    "own": {"Type": "cert-ed25519"},
    "slow": {"Type": "cert-rsa", "Size": 8192},
    "note": {"Type": "plain", "UserDefined": True},
}


class TestSecrets:
    def test_the_templates_of_the_demo_of_2021(self, authority):
        demo = base64.b64encode(b'{"sql": "{{ js (pem .MarbleRun.RootCA.Cert) }}"}').decode()
        manifest = load_with(
            files={"/edg.json": {"Data": demo, "Encoding": "base64"}, "/ca.pem": "{{ pem .Secrets.tls.Cert }}"},
            env={
                "EDB_MASTER_KEY": "{{ hex .Secrets.edbMasterKey.Private }}",
                "CERT": "{{ pem .Secrets.tls.Cert }}",
                "KEY": "{{ pem .Secrets.tls.Private }}",
            },
            secrets=SECRETS,
        )
        shared = first_values(manifest.secrets, authority, NOW)
        parameters = build(authority, manifest, secrets=shared)
        root = authority.marble_root.public_bytes(PEM).decode()
        escaped = root.replace("\n", "\\u000A").replace("=", "\\u003D")
        assert parameters.files["/edg.json"].decode() == f'{{"sql": "{escaped}"}}'
        assert parameters.files["/ca.pem"] == parameters.env["CERT"]
        assert (
            x509.load_pem_x509_certificate(parameters.env["CERT"]).public_bytes(DER)
            == shared.present["tls"].certificate
        )
        key = serialization.load_pem_private_key(parameters.env["KEY"], None)
        assert key.public_key() == x509.load_pem_x509_certificate(parameters.env["CERT"]).public_key()
        expected = unique_symmetric(ROOT_SECRET, ID, "edbMasterKey", "frontend", 128, binding=True)
        assert parameters.env["EDB_MASTER_KEY"] == expected.hex().encode()

    def test_shared_ones_are_the_same_for_all_and_unique_ones_are_not(self, authority):
        env = {"SHARED": "{{ hex .Secrets.shared }}", "UNIQUE": "{{ hex .Secrets.edbMasterKey }}"}
        manifest = load(
            Marbles={name: {"Package": "shop", "Parameters": {"Env": env}} for name in ("a", "b")}, Secrets=SECRETS
        )
        shared = first_values(manifest.secrets, authority, NOW)
        other = uuid4()
        values = [
            build(authority, manifest, kind, uuid=uuid, secrets=shared).env
            for kind, uuid in [("a", ID), ("a", other), ("b", ID), ("a", ID)]
        ]
        assert len({env["SHARED"] for env in values}) == 1
        assert len({env["UNIQUE"] for env in values}) == 3
        assert values[0]["UNIQUE"] == values[3]["UNIQUE"]

    def test_without_binding_the_type_does_not_count(self, authority):
        marble = {
            "Package": "shop",
            "DisableSecretBinding": True,
            "Parameters": {"Env": {"K": "{{ hex .Secrets.edbMasterKey }}"}},
        }
        manifest = load(Marbles={"a": marble, "b": marble}, Secrets=SECRETS)
        assert build(authority, manifest, "a").env["K"] == build(authority, manifest, "b").env["K"]

    def test_one_secret_in_several_places_is_one_value(self, authority):
        manifest = load_with(
            files={"c": "{{ pem .Secrets.own.Cert }}"}, env={"K": "{{ pem .Secrets.own.Private }}"}, secrets=SECRETS
        )
        parameters = build(authority, manifest)
        key = serialization.load_pem_private_key(parameters.env["K"], None)
        assert key.public_key() == x509.load_pem_x509_certificate(parameters.files["c"]).public_key()

    def test_the_previous_generation_is_the_current_one(self, authority):
        manifest = load_with(
            env={"K": "{{ hex .Secrets.edbMasterKey }}", "P": "{{ hex .Previous.Secrets.edbMasterKey }}"},
            secrets=SECRETS,
        )
        env = build(authority, manifest).env
        assert env["K"] == env["P"]

    @pytest.mark.timeout(5)
    def test_only_what_is_used_is_made(self, authority):
        """An RSA key of 8192 bits takes many seconds; no template uses it."""
        manifest = load_with(env={"K": "{{ hex .Secrets.edbMasterKey }}"}, secrets=SECRETS)
        for _ in range(20):
            build(authority, manifest)

    def test_a_secret_that_was_not_uploaded(self, authority):
        manifest = load_with(env={"N": "{{ string .Secrets.note }}"}, secrets=SECRETS)
        with pytest.raises(TemplateError, match="tried to parse secret with empty value"):
            build(authority, manifest)
        value = SecretValue(type=SecretType.PLAIN, user_defined=True, private=Secret(b"hi"), public=Secret(b"hi"))
        assert build(authority, manifest, secrets=SecretValues({"note": value})).env["N"] == b"hi"

    def test_an_uploaded_value_that_does_not_suit_its_template(self, authority):
        manifest = load_with(env={"N": "{{ string .Secrets.note }}"}, secrets=SECRETS)
        value = SecretValue(type=SecretType.PLAIN, private=Secret(b"geheim\0"), public=Secret(b"geheim\0"))
        with pytest.raises(TemplateError, match="null bytes") as caught:
            build(authority, manifest, secrets=SecretValues({"note": value}))
        assert str(caught.value).startswith("Marbles.frontend.Parameters.Env.N: line 1, column 4")
        assert "geheim" not in caught.value.diagnostics()

    def test_a_certificate_that_would_have_ended(self, authority):
        secrets = {"s": {"Type": "cert-ed25519", "Cert": {"NotAfter": "2020-01-01T00:00:00Z"}}}
        manifest = load_with(env={"C": "{{ pem .Secrets.s.Cert }}"}, secrets=secrets)
        with pytest.raises(ManifestError, match="has passed"):
            build(authority, manifest)


class TestParameters:
    def test_files_variables_and_arguments(self, authority):
        parameters = {
            "Files": {"/bin": {"Data": "00ff", "Encoding": "hex"}, "/raw": "{{ raw .Secrets.k }}"},
            "Env": {"A": {"Data": "{{ x", "NoTemplates": True}, "B": "{{/* c */}}b"},
            "Argv": ["./run", "{{ as is }}"],
        }
        manifest = load(
            Marbles={"frontend": {"Package": "shop", "Parameters": parameters}},
            Secrets={"k": {"Type": "symmetric-key", "Size": 128}},
        )
        built = build(authority, manifest)
        key = unique_symmetric(ROOT_SECRET, ID, "k", "frontend", 128, binding=True)
        assert built.files == {"/bin": b"\x00\xff", "/raw": key}
        assert (built.env["A"], built.env["B"]) == (b"{{ x", b"b")
        assert built.argv == ("./run", "{{ as is }}")
        assert repr(built) == "Parameters()"

    def test_names_of_other_marbles_are_refused(self, authority):
        manifest = load_with()
        assert build(authority, manifest, csr_der=request("frontend", "127.0.0.1"))
        with pytest.raises(InvalidRequest, match="another marble type"):
            build(authority, manifest, csr_der=request("backend"))

    def test_the_request_is_not_trusted(self, authority):
        with pytest.raises(InvalidRequest):
            build(authority, load(), csr_der=b"")
