"""What the holder of a recovery key does: decrypt a recovery secret, sign it, encrypt it for a coordinator. No network.

Formats as in MarbleRun: a secret is encrypted with RSA-OAEP (SHA-256, no label), and signed in plain with PKCS#1 v1.5
over SHA-256. A plain secret has 32 bytes, 33 if it is a share of a threshold scheme, or 16 in old deployments; anything
else is encrypted.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key, load_pem_public_key

from confidential_bookstore.attestation.roots import MALFORMED
from confidential_bookstore.errors import ConfigurationError, RecoveryError
from confidential_bookstore.secret import Secret

PLAIN_SIZES = frozenset({16, 32, 33})
_SMALLEST_CIPHERTEXT = 256  # bytes, RSA-2048
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def read_recovery_key(pem: bytes) -> rsa.RSAPrivateKey:
    """An unencrypted RSA private key.

    Raises:
        ConfigurationError: it is anything else.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except MALFORMED as error:
        hint = "decrypt it first: openssl pkey -in KEY -out PLAIN" if b"ENCRYPTED" in pem else ""
        raise ConfigurationError(
            "the recovery key cannot be read", expected="an unencrypted private key in PEM", hint=hint
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError("the recovery key is of the wrong kind", got=type(key).__name__, expected="RSA")
    return key


def read_coordinator_key(raw: bytes) -> rsa.RSAPublicKey:
    """The coordinator's ephemeral public key, PEM or DER.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        key = load_pem_public_key(raw) if raw.lstrip().startswith(b"-----") else load_der_public_key(raw)
    except MALFORMED as error:
        raise ConfigurationError("the coordinator's public key cannot be read", expected="PEM or DER") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise ConfigurationError("the coordinator's public key is of the wrong kind", got=type(key).__name__)
    return key


def read_recovery_secret(raw: bytes, name: str = "") -> Secret[bytes]:
    """A recovery secret from a file: recovery data as `manifest set` saves it, base64 text, or the bytes themselves.

    Args:
        raw: the file.
        name: of the recovery key; recovery data with one secret does not need it.

    Raises:
        ConfigurationError: it is none of these, or recovery data has no secret of that name.
    """
    if raw.lstrip().startswith(b"{"):
        return Secret(_decoded(_named(raw, name)))
    try:
        decoded = base64.b64decode(raw.strip(), validate=True)
    except binascii.Error:
        decoded = b""
    plausible = len(decoded) in PLAIN_SIZES or len(decoded) >= _SMALLEST_CIPHERTEXT
    secret = decoded if plausible else raw
    if len(secret) not in PLAIN_SIZES and len(secret) < _SMALLEST_CIPHERTEXT:
        raise ConfigurationError(
            "not a recovery secret", got=f"{len(secret)} bytes", expected="16, 32 or 33 bytes, or at least 256"
        )
    return Secret(secret)


def _named(raw: bytes, name: str) -> object:
    try:
        document = json.loads(raw)
    except ValueError:
        raise ConfigurationError("recovery data is not JSON") from None
    secrets = document.get("RecoverySecrets", document)
    if not isinstance(secrets, Mapping) or not secrets:
        raise ConfigurationError("recovery data has no recovery secrets")
    if not name and len(secrets) == 1:
        (name,) = secrets
    if name not in secrets:
        raise ConfigurationError(
            "recovery data has no secret of this name", got=name or "no name", expected=" or ".join(sorted(secrets))
        )
    return secrets[name]


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except binascii.Error:
        raise ConfigurationError("a recovery secret is not base64") from None


def is_plain(secret: Secret[bytes]) -> bool:
    """Whether it needs no decryption."""
    return len(secret.reveal()) in PLAIN_SIZES


def decrypt(secret: Secret[bytes], key: rsa.RSAPrivateKey) -> Secret[bytes]:
    """The plain secret; one that is plain already comes back as it is.

    Raises:
        RecoveryError: it is encrypted for another key.
    """
    if is_plain(secret):
        return secret
    try:
        plain = Secret(key.decrypt(secret.reveal(), _OAEP))
    except ValueError:
        raise RecoveryError("the recovery secret is not for this key", hint="choose the secret by --name") from None
    if not is_plain(plain):
        raise RecoveryError("the decrypted recovery secret has the wrong size", got=len(plain.reveal()))
    return plain


def sign(plain: Secret[bytes], key: rsa.RSAPrivateKey) -> bytes:
    """The signature that shows a coordinator that the holder of the key has agreed.

    Raises:
        RecoveryError: the secret is encrypted.
    """
    _require_plain(plain)
    return key.sign(plain.reveal(), padding.PKCS1v15(), hashes.SHA256())


def encrypt(plain: Secret[bytes], coordinator_key: rsa.RSAPublicKey) -> bytes:
    """For one coordinator, as long as it stays in recovery mode.

    Raises:
        RecoveryError: the secret is encrypted.
    """
    _require_plain(plain)
    return coordinator_key.encrypt(plain.reveal(), _OAEP)


def _require_plain(secret: Secret[bytes]) -> None:
    if not is_plain(secret):
        raise RecoveryError("the recovery secret is encrypted", hint="decrypt it with the recovery key first: --key")
