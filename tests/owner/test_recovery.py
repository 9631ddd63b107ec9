"""What key holders do offline. openssl is the independent side."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from confidential_bookstore.errors import ConfigurationError, RecoveryError
from confidential_bookstore.owner import recovery
from confidential_bookstore.secret import Secret

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
SHARE = bytes(range(33))


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("size", [16, 32, 33])
def test_plain_secrets_stay_as_they_are(key, size):
    """A share of 33 bytes is no ciphertext."""
    plain = Secret(bytes(size))
    assert recovery.decrypt(plain, key) is plain
    encrypted = Secret(key.public_key().encrypt(bytes(size), OAEP))
    assert recovery.decrypt(encrypted, key) == plain


def test_openssl_accepts_the_signature_and_decrypts(key, tmp_path):
    for name, content in {
        "private.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "public.pem": key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "share": SHARE,
        "signature": recovery.sign(Secret(SHARE), key),
        "encrypted": recovery.encrypt(Secret(SHARE), key.public_key()),
    }.items():
        (tmp_path / name).write_bytes(content)
    verify = ["openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "share"]
    assert subprocess.run(verify, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    oaep = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256"]
    decrypt = ["openssl", "pkeyutl", "-decrypt", "-inkey", "private.pem", *oaep, "-in", "encrypted"]
    assert subprocess.run(decrypt, cwd=tmp_path, check=True, capture_output=True).stdout == SHARE


def test_what_is_encrypted_is_not_signed_and_not_encrypted_again(key):
    encrypted = Secret(key.public_key().encrypt(SHARE, OAEP))
    with pytest.raises(RecoveryError, match="is encrypted"):
        recovery.sign(encrypted, key)
    with pytest.raises(RecoveryError, match="is encrypted"):
        recovery.encrypt(encrypted, key.public_key())


def test_another_key_and_another_size(key):
    other = rsa.generate_private_key(65537, 2048)
    with pytest.raises(RecoveryError, match="not for this key"):
        recovery.decrypt(Secret(other.public_key().encrypt(SHARE, OAEP)), key)
    with pytest.raises(RecoveryError, match="wrong size"):
        recovery.decrypt(Secret(key.public_key().encrypt(b"12 bytes, no", OAEP)), key)


@pytest.mark.parametrize(
    "secret", [bytes(16), bytes(32), SHARE, b"A" * 32, b"A" * 33, bytes(256), bytes(range(256)) * 2]
)
def test_files_with_one_secret(secret):
    assert recovery.read_recovery_secret(secret).reveal() == secret
    assert recovery.read_recovery_secret(base64.b64encode(secret) + b"\n").reveal() == secret


def test_files_with_recovery_data():
    inner = {"kim": base64.b64encode(SHARE).decode(), "lou": base64.b64encode(bytes(256)).decode()}
    for document in (inner, {"RecoverySecrets": inner}):
        raw = json.dumps(document).encode()
        assert recovery.read_recovery_secret(raw, "kim").reveal() == SHARE
        assert recovery.read_recovery_secret(raw, "lou").reveal() == bytes(256)
        with pytest.raises(ConfigurationError, match="kim or lou"):
            recovery.read_recovery_secret(raw)
    only = json.dumps({"RecoverySecrets": {"kim": inner["kim"]}}).encode()
    assert recovery.read_recovery_secret(only).reveal() == SHARE


@pytest.mark.parametrize(
    "raw", [b"", b"short", bytes(31), bytes(34), bytes(255), b"{", b"{}", b'{"RecoverySecrets": null}',
            b'{"RecoverySecrets": []}', b'{"kim": "!"}', b'{"kim": 7}']
)  # fmt: skip
def test_files_with_none(raw):
    with pytest.raises((ConfigurationError, RecoveryError)):
        recovery.decrypt(recovery.read_recovery_secret(raw), rsa.generate_private_key(65537, 2048))


def test_keys_in_files(key):
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert recovery.read_recovery_key(pem).private_numbers() == key.private_numbers()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    with pytest.raises(ConfigurationError) as refused:
        recovery.read_recovery_key(locked)
    assert "openssl pkey" in refused.value.hint
    elliptic = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ConfigurationError, match="wrong kind"):
        recovery.read_recovery_key(elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key()
    for encoding in (Encoding.PEM, Encoding.DER):
        raw = public.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
        assert recovery.read_coordinator_key(raw).public_numbers() == public.public_numbers()
    for raw in (
        b"",
        b"-----BEGIN",
        elliptic.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        with pytest.raises(ConfigurationError):
            recovery.read_coordinator_key(raw)
