"""What becomes of secrets: at an update, at a rotation, when a marble looks them up."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from core_material import TRUST_DOMAIN, request
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from deployment_material import LATER, NOW, deployed, document, raw, user

from confidential_bookstore.errors import ManifestError, StateError
from confidential_bookstore.secret import Secret
from coordinator.deployment import updates, user_secrets
from coordinator.deployment.activation import build_parameters, makes_rsa_keys
from coordinator.deployment.deployment import Deployment
from coordinator.deployment.user_secrets import UserSecret
from coordinator.secrets import generation

UUID_1 = UUID("11111111-2222-4333-8444-555555555555")


def updated(before: Deployment, **changes: object) -> Deployment:
    after, _ = updates.update(before, raw(Config={"UpdateThreshold": 1}, **changes), user(before, "alice"), LATER)
    return Deployment.restore(after.state.records, after.data_key)


def rotated(before: Deployment) -> Deployment:
    new = raw(Config={"UpdateThreshold": 1, "RotateRootSecret": True})
    after, _ = updates.update(before, new, user(before, "alice"), LATER)
    return Deployment.restore(after.state.records, after.data_key)


def uploaded(deployment: Deployment, **values: bytes) -> Deployment:
    uploads = {name: UserSecret(key=Secret(value)) for name, value in values.items()}
    after, _ = user_secrets.set_secrets(deployment, user(deployment, "erin"), uploads, LATER)
    return after


def activated(deployment: Deployment, marble_type: str, uuid: UUID = UUID_1):
    return build_parameters(
        deployment.require_manifest(),
        marble_type,
        uuid,
        request("localhost"),
        authority=deployment.authority,
        secrets=deployment.secrets,
        root_secret=deployment.root_secret,
        previous_root_secret=deployment.previous_root_secret,
        trust_domain=TRUST_DOMAIN,
        lifetime=LATER - NOW,
        now=NOW,
    )


@pytest.fixture
def before() -> Deployment:
    return uploaded(deployed(Config={"UpdateThreshold": 1}), token=b"hello")


class TestUpdate:
    def test_keeps_unchanged_keys_and_uploads(self, before):
        after = updated(before)
        assert after.secrets.present["shared"] == before.secrets.present["shared"]
        assert after.secrets.present["token"] == before.secrets.present["token"]

    def test_makes_certificates_again_below_the_new_root(self, before):
        after = updated(before)
        made = x509.load_der_x509_certificate(after.secrets.present["tls"].certificate)
        made.verify_directly_issued_by(after.authority.marble_root)
        assert after.secrets.present["tls"].private.reveal() != before.secrets.present["tls"].private.reveal()

    @pytest.mark.parametrize("change", [{"Size": 256}, {"Shared": True, "Size": 128, "UserDefined": True}])
    def test_makes_what_is_defined_differently_again(self, before, change):
        secrets = document()["Secrets"]
        secrets["shared"] = {**secrets["shared"], **change}
        after = updated(before, Secrets=secrets)
        assert after.secrets.present.get("shared") != before.secrets.present["shared"]

    def test_forgets_what_is_removed(self, before):
        secrets = {name: spec for name, spec in document()["Secrets"].items() if name != "token"}
        roles = document()["Roles"]
        roles["writer"]["ResourceNames"].remove("token")
        roles["reader"]["ResourceNames"].remove("token")
        after = updated(rotated(before), Secrets=secrets, Roles=roles)
        assert not [key for key in after.state.records if key.endswith(":token")]

    def test_makes_what_is_new(self, before):
        secrets = {**document()["Secrets"], "new": {"Type": "symmetric-key", "Size": 64, "Shared": True}}
        assert len(updated(before, Secrets=secrets).secrets.present["new"].private.reveal()) == 8


class TestRotation:
    def test_makes_keys_again_and_keeps_those_before_as_the_previous_generation(self, before):
        after = rotated(before)
        assert after.secrets.present["shared"] != before.secrets.present["shared"]
        assert after.secrets.previous["shared"] == before.secrets.present["shared"]
        assert after.root_secret.reveal() != before.root_secret.reveal()
        assert after.previous_root_secret.reveal() == before.root_secret.reveal()

    def test_keeps_uploads(self, before):
        assert rotated(before).secrets.present["token"] == before.secrets.present["token"]

    def test_lasts_until_the_next_one(self, before):
        once = rotated(before)
        assert updated(once).secrets.previous["shared"] == before.secrets.present["shared"]
        assert updated(once).previous_root_secret.reveal() == before.root_secret.reveal()
        twice = rotated(once)
        assert twice.secrets.previous["shared"] == once.secrets.present["shared"]

    def test_is_seen_by_templates(self, before):
        env = {
            "NOW": "{{ hex .Secrets.own }}",
            "THEN": "{{ hex .Previous.Secrets.own }}",
            "SHARED_THEN": "{{ hex .Previous.Secrets.shared }}",
        }
        marbles = {**document()["Marbles"], "backend": {"Package": "shop", "Parameters": {"Env": env}}}
        first = activated(updated(before, Marbles=marbles), "backend")
        assert first.env["NOW"] == first.env["THEN"]
        new = raw(Config={"UpdateThreshold": 1, "RotateRootSecret": True}, Marbles=marbles)
        turned, _ = updates.update(before, new, user(before, "alice"), LATER)
        second = activated(turned, "backend")
        assert second.env["THEN"] == first.env["NOW"] != second.env["NOW"]
        assert second.env["SHARED_THEN"] == before.secrets.present["shared"].private.reveal().hex().encode()


class TestActivation:
    def test_derives_unique_keys_as_marblerun_does(self, before):
        own = activated(before, "backend").env["OWN"]
        expected = HKDF(hashes.SHA256(), 16, f"{UUID_1}own".encode(), b"backend").derive(bytes(range(32)))
        assert own == expected.hex().encode()

    def test_makes_only_what_its_marble_uses(self, before, monkeypatch):
        made = []
        real = generation.generate_unique

        def counting(spec, *args, **rest):
            made.append(spec.name)
            return real(spec, *args, **rest)

        monkeypatch.setattr("coordinator.secrets.on_demand.generate_unique", counting)
        activated(before, "frontend")
        assert made == []
        activated(before, "backend")
        assert made == ["own"]

    def test_of_a_marble_whose_secret_was_not_uploaded_fails(self):
        marbles = {"frontend": {"Package": "shop", "Parameters": {"Env": {"TOKEN": "{{ string .Secrets.token }}"}}}}
        deployment = deployed(Marbles=marbles)
        with pytest.raises(ManifestError, match="tried to parse secret with empty value"):
            activated(deployment, "frontend")
        assert activated(uploaded(deployment, token=b"hi"), "frontend").env["TOKEN"] == b"hi"

    def test_knows_who_needs_rsa_keys(self):
        secrets = {**document()["Secrets"], "big": {"Type": "cert-rsa", "Size": 2048}}
        env = {"KEY": "{{ pem .Secrets.big.Private }}"}
        marbles = {**document()["Marbles"], "backend": {"Package": "shop", "Parameters": {"Env": env}}}
        manifest = deployed(Secrets=secrets, Marbles=marbles).require_manifest()
        assert makes_rsa_keys(manifest, "backend")
        assert not makes_rsa_keys(manifest, "frontend")


TTLS_MARBLES = {"frontend": {"Package": "shop", "TLS": ["web", "bank"]}, "backend": {"Package": "shop"}}
TTLS_TAGS = {
    "web": {
        "Incoming": [
            {"Port": "8443", "Cert": "tls", "DisableClientAuth": True},
            {"Port": "9000"},
        ]
    },
    "bank": {"Outgoing": [{"Addr": "bank.example", "Port": "443"}]},
}


class TestTtls:
    def test_is_what_the_tags_say(self):
        deployment = deployed(Marbles=TTLS_MARBLES, TLS=TTLS_TAGS)
        env = activated(deployment, "frontend").env
        config = json.loads(env["MARBLE_TTLS_CONFIG"])["tls"]
        assert set(config["Incoming"]) == {"*:8443", "*:9000"}
        assert set(config["Outgoing"]) == {"bank.example:443"}
        web, own = config["Incoming"]["*:8443"], config["Incoming"]["*:9000"]
        assert (web["clientAuth"], own["clientAuth"]) == (False, True)
        secret = x509.load_der_x509_certificate(deployment.secrets.present["tls"].certificate)
        assert x509.load_pem_x509_certificate(web["clicrt"].encode()) == secret
        chain = env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"]
        assert own["clicrt"].encode() == chain[: len(own["clicrt"])]
        assert own["clikey"].encode() == env["MARBLE_PREDEFINED_PRIVATE_KEY"]
        assert own["cacrt"].encode() == env["MARBLE_PREDEFINED_ROOT_CA"]
        assert set(config["Outgoing"]["bank.example:443"]) == {"cacrt", "clicrt", "clikey"}

    def test_is_not_there_without_tags(self):
        deployment = deployed(Marbles=TTLS_MARBLES, TLS=TTLS_TAGS)
        assert "MARBLE_TTLS_CONFIG" not in activated(deployment, "backend").env

    def test_waits_for_an_uploaded_certificate(self):
        tags = {"web": {"Incoming": [{"Port": "1", "Cert": "uploaded", "DisableClientAuth": True}]}, "bank": {}}
        with pytest.raises(StateError, match="has no value yet"):
            activated(deployed(Marbles=TTLS_MARBLES, TLS=tags), "frontend")
