"""Key holders and sealed states that the tests of the recovery share."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from coordinator.recovery.data_key import DataKey, new_data_key
from coordinator.recovery.session import Progress, Recovered, RecoverySession

RECORDS = {"state": b"3", "manifest": b"{}"}


@functools.cache
def private_key(_number: int) -> rsa.RSAPrivateKey:
    """The same one for the same number; small, for the tests' sake."""
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def signature(secret: bytes, number: int) -> bytes:
    return private_key(number).sign(secret, padding.PKCS1v15(), hashes.SHA256())


def public_keys(count: int) -> dict[str, rsa.RSAPublicKey]:
    return {f"holder{number}": private_key(number).public_key() for number in range(count)}


@dataclass(frozen=True)
class Sealed:
    """A state sealed under a new data key, and the plaintext shares of its holders 0, 1, ..."""

    data_key: DataKey
    shares: list[bytes]
    threshold: int

    @classmethod
    def new(cls, count: int, threshold: int = 0) -> Sealed:
        data_key, encrypted = new_data_key(public_keys(count), threshold)
        oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
        shares = [private_key(number).decrypt(encrypted[f"holder{number}"], oaep) for number in range(count)]
        return cls(data_key, shares, threshold)

    def open(self, key: bytes):
        return RECORDS if key == self.data_key.key.reveal() else None

    def verify(self, records):
        assert records == RECORDS
        return public_keys(len(self.shares)), self.threshold

    def session(self, recovery_data: bytes | None = None) -> RecoverySession:
        return RecoverySession(self.data_key.recovery_data if recovery_data is None else recovery_data, self.open)

    def upload(
        self, session: RecoverySession, number: int, signed_by: int | None = None, share: bytes | None = None
    ) -> Progress | Recovered:
        """The share of one holder, by default signed by that holder."""
        secret = self.shares[number] if share is None else share
        signer = number if signed_by is None else signed_by
        return session.upload(secret, signature(secret, signer), self.verify)


@functools.cache
def slow_multiply(left: int, right: int) -> int:
    """In GF(2^8), as polynomials: the product, then long division by 0x11B."""
    product = 0
    for (i, a), (j, b) in itertools.product(enumerate(f"{left:08b}"[::-1]), enumerate(f"{right:08b}"[::-1])):
        product ^= (a == b == "1") << (i + j)
    while product.bit_length() > 8:
        product ^= 0x11B << (product.bit_length() - 9)
    return product


def slow_combine(shares: list[bytes]) -> bytes:
    """Byte by byte, inverses found by search."""
    secret = bytearray()
    for position in range(len(shares[0]) - 1):
        value = 0
        for share in shares:
            term = share[position]
            for other in shares:
                if other is not share:
                    inverse = next(a for a in range(1, 256) if slow_multiply(a, other[-1] ^ share[-1]) == 1)
                    term = slow_multiply(slow_multiply(term, other[-1]), inverse)
            value ^= term
        secret.append(value)
    return bytes(secret)
