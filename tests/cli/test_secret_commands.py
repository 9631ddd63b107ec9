"""`cbs secret`: values go to users who may have them, and nowhere else."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from deployments import cbs, self_signed

TOKEN = b"a very secret token \xff"


@pytest.fixture
def token(shop) -> object:
    secrets = {"api_token": {"Key": base64.b64encode(TOKEN).decode()}}
    return shop.write("secrets.json", json.dumps(secrets))


def test_set_and_get(shop, token):
    said = cbs("secret", "set", token, *shop.as_user("reader"))
    assert (said.code, said.out.split()) == (0, ["Set", "api_token"])
    shown = cbs("secret", "get", "api_token", "shared", *shop.as_user("reader"))
    assert shown.code == 0, shown.err
    assert base64.b64encode(TOKEN).decode() in shown.out
    assert "symmetric-key" in shown.out
    assert cbs("secret", "get", "api_token", "--raw", *shop.as_user("reader")).raw == TOKEN
    described = cbs("secret", "get", "shared", "--output", "json", *shop.as_user("reader")).json["Secrets"]["shared"]
    assert (described["Type"], described["Size"], described["UserDefined"]) == ("symmetric-key", 256, False)
    assert len(base64.b64decode(described["Private"])) == 32


def test_values_go_to_a_file_of_ones_own(shop, token, tmp_path):
    cbs("secret", "set", token, *shop.as_user("reader"))
    out = tmp_path / "token"
    out.write_text("old")
    out.chmod(0o644)
    said = cbs("secret", "get", "api_token", "--raw", "--out", out, *shop.as_user("reader"))
    assert (said.code, said.out) == (0, "")
    assert out.read_bytes() == TOKEN
    assert out.stat().st_mode & 0o777 == 0o600


def test_a_certificate_from_pem(shop, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = self_signed("server", key)
    traditional = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    file = shop.write("server.pem", certificate.public_bytes(Encoding.PEM) + traditional)
    said = cbs("secret", "set", file, "--from-pem", "server", *shop.as_user("reader"))
    assert said.code == 0, said.err
    got = cbs("secret", "get", "server", "--raw", *shop.as_user("reader")).raw
    assert x509.load_pem_x509_certificate(got) == certificate
    assert (
        load_pem_private_key(got[got.index(b"-----BEGIN PRIVATE") :], None).private_numbers() == key.private_numbers()
    )
    assert "BEGIN CERTIFICATE" in cbs("secret", "get", "server", *shop.as_user("reader")).out


def test_who_may_not(shop, token):
    for command in (["secret", "get", "shared"], ["secret", "set", token]):
        said = cbs(*command, *shop.as_user("alice"))
        assert said.code == 1
        assert "is not allowed" in said.err
        assert base64.b64encode(TOKEN).decode() not in said.err
    assert cbs("secret", "get", "nowhere", *shop.as_user("reader")).code == 1
    assert cbs("secret", "get", "shared").code == 3
    assert cbs("secret", "get", "shared", "api_token", "--raw", *shop.as_user("reader")).code == 3


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON c2VjcmV0",
        b"[]",
        b"{}",
        b'{"api_token": "c2VjcmV0"}',
        b'{"api_token": {}}',
        b'{"api_token": {"Value": "c2VjcmV0"}}',
        b'{"api_token": {"Key": "c2VjcmV0!"}}',
        b'{"api_token": {"Key": ["c2VjcmV0"]}}',
    ],
)
def test_a_malformed_file_is_not_shown(shop, content):
    said = cbs("secret", "set", shop.write("secrets.json", content), *shop.as_user("reader"))
    assert said.code == 3
    assert "c2VjcmV0" not in said.err


def test_a_pem_file_that_does_not_fit(shop):
    one, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    mixed = shop.write("mixed.pem", self_signed("server", one).public_bytes(Encoding.PEM) + pem)
    said = cbs("secret", "set", mixed, "--from-pem", "server", *shop.as_user("reader"))
    assert (said.code, "do not belong together" in said.err) == (3, True)
    for content in (pem, b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"):
        said = cbs("secret", "set", shop.write("bad.pem", content), "--from-pem", "server", *shop.as_user("reader"))
        assert said.code == 3
