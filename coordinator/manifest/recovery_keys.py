"""The section `RecoveryKeys`: whose private keys together open the sealed state when the machine cannot."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import rsa

from coordinator.manifest.fields import Node
from coordinator.manifest.pem import public_key

MOST_RECOVERY_KEYS = 255  # of Shamir's scheme over GF(2^8)
RECOVERY_KEY_SIZES = range(2048, 16385)  # bits; the upper bound is OpenSSL's
_LARGEST_EXPONENT = 2**31 - 1  # Go's


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryKeySpec:
    """One recovery key: a recovery secret is encrypted to it, and its owner signs the secret at a recovery."""

    name: str
    public_key: rsa.RSAPublicKey


def read_recovery_key(name: str, node: Node) -> RecoveryKeySpec:
    """Read and check one entry of `RecoveryKeys`.

    Raises:
        ManifestError: it is not an RSA public key in PEM, or one of an unsuitable size.
    """
    key = public_key(node)
    if not isinstance(key, rsa.RSAPublicKey):
        raise node.error("recovery key is not an RSA key", got=type(key).__name__.removesuffix("PublicKey"))
    if key.key_size not in RECOVERY_KEY_SIZES:
        raise node.error(
            "recovery key has an unsuitable size",
            got=f"{key.key_size} bits",
            expected=f"{RECOVERY_KEY_SIZES[0]} to {RECOVERY_KEY_SIZES[-1]}",
        )
    if key.public_numbers().e > _LARGEST_EXPONENT:
        raise node.error("recovery key has too large an exponent", expected=f"at most {_LARGEST_EXPONENT}")
    return RecoveryKeySpec(name=name, public_key=key)
