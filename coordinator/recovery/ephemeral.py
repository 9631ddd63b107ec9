"""The key under which recovery secrets travel from their holders into this very coordinator.

It lives in memory only. A holder who has verified the coordinator's quote encrypts the secret for it, so that whoever
carries the secret there, and whatever ends the TLS connection before the enclave, learns nothing.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from confidential_bookstore.errors import RecoveryError
from coordinator.recovery.data_key import OAEP

_BITS: Final = 4096
_EXPONENT = 65537


class EphemeralKey:
    """RSA-4096, for OAEP with SHA-256 and an empty label. Make one with `generate`."""

    def __init__(self, private_key: rsa.RSAPrivateKey) -> None:
        self._private_key = private_key

    @classmethod
    def generate(cls) -> EphemeralKey:
        """Takes some seconds: call from a thread."""
        return cls(rsa.generate_private_key(public_exponent=_EXPONENT, key_size=_BITS))

    @property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return self._private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def decrypt(self, ciphertext: bytes) -> bytes:
        """The recovery secret.

        Raises:
            RecoveryError: it was encrypted in another way, or for another key.
        """
        try:
            return self._private_key.decrypt(ciphertext, OAEP)
        except ValueError:
            raise RecoveryError(
                "recovery secret cannot be decrypted",
                hint="encrypt it for the ephemeral key of this coordinator, which is another one after every start",
            ) from None
